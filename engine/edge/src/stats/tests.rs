//! A page is read while its engine lives and after it is gone; other files are refused.

use super::*;

fn facts() -> Facts {
    Facts {
        engine: "demo".to_owned(),
        started_at: 1_000,
        tsc_hz: 3_000_000_000,
        seats: vec!["feed.binance".to_owned(), "journal".to_owned()],
        venues: vec!["binance".to_owned()],
    }
}

#[test]
fn a_page_outlives_its_engine() {
    let dir = tempfile::tempdir().unwrap();
    let writer = StatsWriter::create(dir.path(), &facts()).unwrap();
    let seat = writer.seat(1).unwrap();
    let venue = writer.venue(0).unwrap();
    assert!(writer.seat(2).is_none() && writer.venue(1).is_none());
    let reader = StatsReader::open(dir.path()).unwrap();
    let before = reader.read(1_500);
    assert_eq!(before.facts, facts());
    assert_eq!(
        (before.alive, before.age_ns, before.pid),
        (true, 500, u64::from(std::process::id()))
    );
    assert_eq!(before.seats, [SeatView::default(); 2]);

    // The handles are of other threads, and each keeps the page mapped.
    let seat_view =
        SeatView { heartbeat: 7, events: 9, turn_max_ticks: u64::MAX, ..SeatView::default() };
    let venue_view =
        VenueView { frames: 3, last_message_at: 5, connected: 1, ..VenueView::default() };
    std::thread::spawn(move || seat.store(&seat_view)).join().unwrap();
    std::thread::spawn(move || venue.store(&venue_view)).join().unwrap();
    let engine = EngineView { updated_at: 2_000, orders: 4, ..EngineView::default() };
    let journal = JournalView { committed: 11, durable: 10, ..JournalView::default() };
    writer.store_engine(&engine);
    writer.store_journal(&journal);
    let during = reader.read(2_001);
    assert_eq!((during.seats[0], during.seats[1]), (SeatView::default(), seat_view));
    assert_eq!((during.venues[0], during.engine, during.journal), (venue_view, engine, journal));
    assert_eq!((during.alive, during.age_ns), (true, 1));

    drop(writer);
    for reader in [reader, StatsReader::open(dir.path()).unwrap()] {
        let after = reader.read(5_000);
        assert_eq!(after, Stats { alive: false, age_ns: 3_000, ..during.clone() });
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing left beside the page");
}

#[test]
fn a_living_engine_keeps_its_page_and_a_dead_one_gives_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let first = StatsWriter::create(dir.path(), &facts()).unwrap();
    let refused = StatsWriter::create(dir.path(), &facts()).unwrap_err();
    assert!(matches!(refused, StatsError::Owned { .. }), "{refused}");
    // A handle that is still in use keeps the engine alive.
    let seat = first.seat(0);
    drop(first);
    assert!(StatsWriter::create(dir.path(), &facts()).is_err());
    drop(seat);
    let old = StatsReader::open(dir.path()).unwrap();
    let second = StatsWriter::create(dir.path(), &Facts { started_at: 2_000, ..facts() }).unwrap();
    assert_eq!(old.read(0).facts.started_at, 1_000, "a mapped page stays what it was");
    let new = StatsReader::open(dir.path()).unwrap();
    assert_eq!((new.read(0).facts.started_at, new.path()), (2_000, second.path()));
}

#[test]
fn files_that_are_no_page_of_this_version_are_refused_with_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    drop(StatsWriter::create(dir.path(), &facts()).unwrap());
    let path = dir.path().join(FILE_NAME);
    let good = std::fs::read(&path).unwrap();
    let check = |bytes: &[u8], want: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = StatsReader::open(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with(want), "{error}");
    };
    check(b"", &format!(": size is 0; must be {SIZE}"));
    check(&[7; 4_096], &format!(": magic is {}; must be {MAGIC}", 0x0707_0707_0707_0707_u64));
    check(&good[..good.len() - 1], &format!(": size is {}; must be {SIZE}", SIZE - 1));
    let mut newer = good.clone();
    newer[8] += 1;
    check(&newer, &format!(": layout version is {}; must be {VERSION}", VERSION + 1));
    std::fs::remove_file(&path).unwrap();
    let error = StatsReader::open(dir.path()).unwrap_err();
    assert!(matches!(error, StatsError::Io { .. }), "{error}");

    // Right at the head and garbage behind: read without harm.
    let mut garbage = good.clone();
    garbage[24..].fill(0xff);
    std::fs::write(&path, &garbage).unwrap();
    let stats = StatsReader::open(dir.path()).unwrap().read(1);
    assert_eq!((stats.seats.len(), stats.venues.len()), (SEATS_MAX, VENUES_MAX));
    assert_eq!((stats.alive, stats.age_ns), (false, 0));
}

#[test]
fn names_are_cut_and_blocks_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let long = "n".repeat(NAME_BYTES + 1);
    let seats = vec![long.clone(); SEATS_MAX];
    let writer = StatsWriter::create(dir.path(), &Facts { seats, ..facts() }).unwrap();
    let stats = StatsReader::open(dir.path()).unwrap().read(0);
    assert_eq!(stats.facts.seats[SEATS_MAX - 1], long[..NAME_BYTES]);
    drop(writer);
    let venues = vec!["v".to_owned(); VENUES_MAX + 1];
    let error = StatsWriter::create(dir.path(), &Facts { venues, ..facts() }).unwrap_err();
    assert_eq!(error.to_string(), "stats page: 65 venues; there is room for 64");
}

#[test]
fn the_configured_run_directory_goes_before_the_usual_ones() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("a/b");
    assert_eq!(find_run_dir("demo", Some(&own)), None);
    assert_eq!(make_run_dir("demo", Some(&own)).unwrap(), own);
    assert_eq!(std::fs::read_dir(&own).unwrap().count(), 0, "no probe is left");
    let _writer = StatsWriter::create(&own, &facts()).unwrap();
    assert_eq!(find_run_dir("demo", Some(&own)), Some(own));
    assert_eq!(run_dirs("demo")[0], Path::new("/run/kairos/demo"));
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(make_run_dir("demo", Some(&file)).is_err());
}
