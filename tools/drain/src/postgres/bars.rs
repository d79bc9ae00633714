//! Keeps the bars of plain PostgreSQL up to date, on a connection of its own: rows wait for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kairos_edge::config::Postgres;
use postgres::Client;

use super::{connect, failed};
use crate::sink::SinkError;

/// How often, and by how many events at once.
const EVERY: Duration = Duration::from_secs(10);
const MOST: i64 = 1_000_000;
/// How soon it notices that it shall end.
const LOOK: Duration = Duration::from_millis(100);

/// Refreshes until it goes.
pub(super) struct Bars(Arc<AtomicBool>);

impl Bars {
    /// `None` where the system gives no thread: bars are right without, and slower to read.
    pub(super) fn start(config: &Postgres) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (config, told) = (config.clone(), Arc::clone(&stop));
        let thread = thread::Builder::new().name("drain-bars".into());
        thread.spawn(move || run(&config, &told)).ok().map(|_| Self(stop))
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn run(config: &Postgres, stop: &AtomicBool) {
    let mut client: Option<Client> = None;
    let mut is_said = false;
    loop {
        let next = Instant::now() + EVERY;
        while Instant::now() < next {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(LOOK);
        }
        match turn(config, &mut client, stop) {
            Ok(()) => is_said = false,
            Err(error) => {
                client = None;
                if !std::mem::replace(&mut is_said, true) {
                    eprintln!("kairos-drain: postgres: kept bars stay behind: {error}");
                }
            }
        }
    }
}

fn turn(
    config: &Postgres,
    client: &mut Option<Client>,
    stop: &AtomicBool,
) -> Result<(), SinkError> {
    let client = match client {
        Some(client) => client,
        None => client.insert(connect::connect(config)?),
    };
    while refresh(client, config)? && !stop.load(Ordering::Relaxed) {}
    Ok(())
}

/// Adds trades that are committed. Says whether more are left.
pub(super) fn refresh(client: &mut Client, config: &Postgres) -> Result<bool, SinkError> {
    let schema = &config.schema;
    let call = format!(
        "SELECT {schema}.refresh_bars((SELECT max(next_seq) - 1 FROM {schema}.drain_offset), $1)"
    );
    let row = client.query_one(&call, &[&MOST]).map_err(|error| failed("refresh bars", &error))?;
    Ok(row.get(0))
}
