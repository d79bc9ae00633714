//! The drain killed at random points, over and over, with all sinks at once.

use std::thread;
use std::time::Duration;

use super::harness::{Dice, Place, servers};
use super::journal::Written;
use super::whole::all_hold_all;

/// Thirty-two kills, while the journal grows and the engine is killed and started again in between.
#[test]
fn killed_at_any_point_it_loses_and_doubles_nothing() {
    let servers = servers();
    let mut place = Place::with_files();
    if let Some(url) = &servers.postgres {
        place.postgres = Some(super::harness::database(url));
    }
    if let Some(url) = &servers.redis {
        place.redis = Some((url.clone(), super::harness::prefix()));
    }
    killed(&mut place, 32);
}

/// The same with TimescaleDB and DragonflyDB, where they are named.
#[test]
fn killed_at_any_point_it_loses_and_doubles_nothing_in_other_servers() {
    if let Some(url) = super::harness::named("KAIROS_TEST_DRAGONFLY_URL") {
        let redis = Some((url, super::harness::prefix()));
        killed(&mut Place { redis, ..Place::new() }, 16);
    }
    let days = "market_data_days = 36500\ncompress_after_days = 30000";
    if let Some(mut timescale) = super::postgres::Timescale::new(days) {
        killed(&mut timescale.place, 16);
    }
}

fn killed(place: &mut Place, kills: u32) {
    // Small batches, so that there are many points to be killed at.
    place.more[0] = "batch_rows = 97\ncatchup_rows = 501\nbatch_ms = 3".into();
    place.more[1] = "rows = 1500".into();
    let mut dice = Dice::new();
    let mut run = 1;
    let mut journal = Written::begin(&place.journal(), run);
    for round in 0..kills {
        journal.some(2_000);
        journal.flush();
        let drain = place.start();
        thread::sleep(Duration::from_millis(dice.below(160)));
        drain.kill();
        if round % 10 == 9 {
            run += 1;
            if round % 20 == 9 {
                journal.kill()
            } else {
                journal.end()
            }
            journal = Written::begin(&place.journal(), run);
        }
    }
    journal.end();
    place.catch_up();
    all_hold_all(place);
    // And nothing changes by asking again.
    place.catch_up();
    all_hold_all(place);
}
