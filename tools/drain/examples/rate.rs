//! How fast the sinks are, each against a bare loop that sends the same bytes to the same server.
//!
//! ```sh
//! eval "$(tools/drain/dev-services up | sed 's/^/export /')"; export PGPASSWORD=kairos-dev
//! cargo run --release -p kairos-drain --example rate -- JOURNAL [ROUNDS]
//! ```
//!
//! The journal is any directory that the engine wrote. Rounds interleave; the median counts. One JSON
//! document goes to stdout.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use kairos_drain::files::Files;
use kairos_drain::postgres::Server;
use kairos_drain::redis::Lane;
use kairos_drain::sink::{Batch, Sink};
use kairos_drain::source::{Follow, Source, Step, identify};
use kairos_edge::config::{Drain, Sources};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

const BATCH: Batch = Batch { rows: 10_000, catchup_rows: 10_000, bytes: 4 << 20, ms: 60_000 };

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(journal) = arguments.next().map(PathBuf::from) else {
        eprintln!("rate: name a journal");
        return ExitCode::from(64);
    };
    let rounds = arguments.next().and_then(|it| it.parse().ok()).unwrap_or(5);
    match measure(&journal, rounds) {
        Ok(report) => {
            let _printed = writeln!(std::io::stdout(), "{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(journal: &Path, rounds: usize) -> Result<Value, Failure> {
    let uuid = identify(journal)?.0.ok_or("the journal has no run")?;
    let mut report = json!({ "batch_rows": BATCH.rows, "rounds": rounds });
    if let Ok(url) = std::env::var("KAIROS_TEST_PG_URL") {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (one, other) = postgres(journal, &uuid, &url)?;
            ours.push(one);
            bare.push(other);
        }
        report["postgres"] = verdict(ours, bare);
    }
    if let Ok(url) = std::env::var("KAIROS_TEST_REDIS_URL") {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (one, other) = redis_server(journal, &uuid, &url)?;
            ours.push(one);
            bare.push(other);
        }
        report["redis"] = verdict(ours, bare);
    }
    let dir = std::env::temp_dir().join(format!("kairos-rate-{}", std::process::id()));
    let drain = drain(&format!("[drain.parquet]\ndir = {:?}\n", dir.display().to_string()))?;
    let mut sink = Files::new(drain.parquet.ok_or("no parquet")?);
    report["parquet"] = json!({ "events_per_second": drive(&mut sink, journal, &uuid)? });
    std::fs::remove_dir_all(&dir)?;
    Ok(report)
}

/// The sink, then the same bytes into the same tables by a bare loop. Events per second of each.
fn postgres(journal: &Path, uuid: &str, url: &str) -> Result<(f64, f64), Failure> {
    let drain = drain(&format!("[drain.postgres]\nurl = {url:?}\nschema = \"kairos_rate\"\n"))?;
    let config = drain.postgres.ok_or("no postgres")?;
    kairos_drain::postgres::clear(&config)?;
    let mut sink = Server::new(config.clone(), BATCH, journal.to_owned());
    let ours = drive(&mut sink, journal, uuid)?;
    let batches = collect(&mut sink, journal, Server::take_batch)?;
    drop(sink);
    let mut address: postgres::Config = url.parse()?;
    address.password(std::env::var("PGPASSWORD").unwrap_or_default());
    let mut client = address.connect(postgres::NoTls)?;
    client.batch_execute("SET search_path = kairos_rate; SET synchronous_commit = off")?;
    for table in kairos_drain::table::Table::ALL {
        client.batch_execute(&format!("TRUNCATE {}", table.name()))?;
    }
    let begun = Instant::now();
    let mut events = 0;
    for (count, tables) in &batches {
        events += count;
        let mut batch = client.transaction()?;
        for (copy, bytes) in tables {
            let mut writer = batch.copy_in(copy.as_str())?;
            writer.write_all(bytes)?;
            writer.finish()?;
        }
        batch.commit()?;
    }
    let bare = per_second(events, begun);
    kairos_drain::postgres::clear(&config)?;
    Ok((ours, bare))
}

/// The sink, then the same commands by a bare pipelined loop. Events per second of each.
fn redis_server(journal: &Path, uuid: &str, url: &str) -> Result<(f64, f64), Failure> {
    let drain = drain(&format!("[drain.redis]\nurl = {url:?}\nkey_prefix = \"rate:\"\n"))?;
    let config = drain.redis.ok_or("no redis")?;
    // A sync for each portion that the server reads would make the bare loop slow: MULTI has one.
    let mut settings = redis::Client::open(url)?.get_connection()?;
    let _may_be_refused: redis::RedisResult<()> =
        redis::cmd("CONFIG").arg(&["SET", "appendfsync", "everysec"]).query(&mut settings);
    kairos_drain::redis::clear(&config)?;
    let mut lane = Lane::new(config.clone(), BATCH, 0);
    let ours = drive(&mut lane, journal, uuid)?;
    kairos_drain::redis::clear(&config)?;
    lane.attach(uuid)?;
    let batches = collect(&mut lane, journal, Lane::take_batch)?;
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let begun = Instant::now();
    let mut events = 0;
    for (count, (commands, bytes)) in &batches {
        events += count;
        connection.send_packed_command(bytes)?;
        for _ in 0..*commands {
            connection.recv_response()?;
        }
    }
    let bare = per_second(events, begun);
    kairos_drain::redis::clear(&config)?;
    Ok((ours, bare))
}

/// From the journal into the sink, as the service does it while it catches up.
fn drive(sink: &mut dyn Sink, journal: &Path, uuid: &str) -> Result<f64, Failure> {
    let cursor = sink.attach(uuid)?;
    let begun = Instant::now();
    let mut source = Source::open(journal, cursor, Follow::Durable)?;
    let (mut told, mut events) = (0, 0);
    loop {
        let before = source.cursor();
        match source.next()? {
            Step::Entry(run, entry) => {
                if sink.pending().events > 0
                    && (before.run != run.number || sink.must_commit_before(run, &entry))
                {
                    sink.commit(before)?;
                }
                if told != run.version {
                    sink.run(run)?;
                    told = run.version;
                }
                sink.add(run, &entry)?;
                events += 1;
            }
            Step::Mark => {}
            Step::Nothing { .. } => break,
        }
        let batch = sink.batch();
        if sink.pending().events >= batch.catchup_rows || sink.pending().bytes >= batch.bytes {
            sink.commit(source.cursor())?;
        }
    }
    if sink.pending().events > 0 {
        sink.commit(source.cursor())?;
    }
    Ok(per_second(events, begun))
}

/// What the sink would send, batch by batch.
fn collect<S: Sink, T>(
    sink: &mut S,
    journal: &Path,
    take: fn(&mut S) -> T,
) -> Result<Vec<(usize, T)>, Failure> {
    let start = kairos_drain::sink::Cursor::START;
    let mut source = Source::open(journal, start, Follow::Durable)?;
    let (mut told, mut batches) = (0, Vec::new());
    loop {
        match source.next()? {
            Step::Entry(run, entry) => {
                if told != run.version {
                    sink.run(run)?;
                    told = run.version;
                }
                sink.add(run, &entry)?;
            }
            Step::Mark => {}
            Step::Nothing { .. } => break,
        }
        let pending = sink.pending();
        if pending.events >= BATCH.rows || pending.bytes >= BATCH.bytes {
            batches.push((pending.events, take(sink)));
        }
    }
    batches.push((sink.pending().events, take(sink)));
    Ok(batches)
}

fn drain(text: &str) -> Result<Drain, Failure> {
    let file = std::env::temp_dir().join(format!("kairos-rate-{}.toml", std::process::id()));
    std::fs::write(&file, text)?;
    let loaded = Sources { file: Some(file.clone()), ..Sources::default() }.load_drain();
    std::fs::remove_file(&file)?;
    loaded.map(|it| it.1).map_err(|problems| format!("{problems:?}").into())
}

#[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
fn per_second(events: usize, begun: Instant) -> f64 {
    events as f64 / begun.elapsed().as_secs_f64()
}

fn verdict(mut ours: Vec<f64>, mut bare: Vec<f64>) -> Value {
    ours.sort_by(f64::total_cmp);
    bare.sort_by(f64::total_cmp);
    let (drain, loop_) = (ours[ours.len() / 2], bare[bare.len() / 2]);
    json!({ "events_per_second": drain, "bare_events_per_second": loop_, "ratio": drain / loop_ })
}
