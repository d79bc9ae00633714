//! What goes wrong with servers, networks, operators and journals.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use kairos_drain::status::State;

use super::harness::{Dice, Own, Place, connect, database, host_of, prefix, servers, until};
use super::journal::Written;
use super::whole::{all_hold_all, files_hold_all, postgres_holds_all, redis_holds_all};

/// Batches so small that something is always on its way.
fn small(place: &mut Place) {
    place.more[0] = "batch_rows = 50\ncatchup_rows = 200\nbatch_ms = 3".into();
}

fn errors_of(place: &Place, sink: &str) -> u64 {
    place.status(sink).map_or(0, |it| it.errors.values().sum())
}

#[test]
fn postgres_stops_at_once_in_mid_batch_and_comes_back() {
    let own = Own::start(&["postgres"]);
    let Some(url) = &own.servers.postgres else { return };
    for synchronous in [false, true] {
        let mut place = Place { postgres: Some(database(url)), ..Place::with_files() };
        small(&mut place);
        place.more[2] = format!("synchronous_commit = {synchronous}");
        let mut journal = Written::begin(&place.journal(), 1);
        let drain = place.start();
        let held = |place: &Place| place.status("postgres").map_or(0, |it| it.seq);
        for _ in 0..3 {
            journal.some(8_000);
            journal.flush();
            let before = held(&place);
            until("a batch went through", || held(&place) > before);
            let errors = errors_of(&place, "postgres");
            own.crash("postgres");
            journal.some(100);
            journal.flush();
            until("the drain notices", || errors_of(&place, "postgres") > errors);
            own.start_again("postgres");
        }
        journal.end();
        until("all is there", || {
            place.status("postgres").is_some_and(|it| it.state == State::Live && it.lag_events == 0)
        });
        assert_eq!(drain.stop(), 0, "{}", place.log());
        all_hold_all(&place);
        let errors = place.status("postgres").unwrap().errors;
        assert!(errors.values().sum::<u64>() >= 3, "{errors:?}");
    }
}

#[test]
fn redis_is_killed_and_comes_back() {
    let own = Own::start(&["redis"]);
    let Some(url) = own.servers.redis.clone() else { return };
    let mut place = Place { redis: Some((url, prefix())), ..Place::new() };
    small(&mut place);
    let mut journal = Written::begin(&place.journal(), 1);
    let drain = place.start();
    let held = |place: &Place| place.status("redis").map_or(0, |it| it.seq);
    for _ in 0..4 {
        journal.some(8_000);
        let before = held(&place);
        until("a batch went through", || held(&place) > before);
        let errors = errors_of(&place, "redis");
        own.crash("redis");
        journal.some(100);
        until("the drain notices", || errors_of(&place, "redis") > errors);
        own.start_again("redis");
    }
    let last = journal.last();
    until("all is there", || held(&place) >= last);
    journal.end();
    assert_eq!(drain.stop(), 0, "{}", place.log());
    redis_holds_all(&place);
}

/// Passes bytes on, and cuts every connection once a budget of bytes to the server is used up.
struct Proxy {
    port: u16,
    budget: Arc<AtomicI64>,
    is_over: Arc<AtomicBool>,
    cuts: Arc<AtomicI64>,
}

impl Proxy {
    fn new(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let budget = Arc::new(AtomicI64::new(i64::MAX));
        let (is_over, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let this = Self { port, budget, is_over, cuts };
        let (budget, is_over, cuts) =
            (Arc::clone(&this.budget), Arc::clone(&this.is_over), Arc::clone(&this.cuts));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let (budget, cuts) = (Arc::clone(&budget), Arc::clone(&cuts));
                let (back_from, back_to) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(back_from, back_to, |_| true));
                thread::spawn(move || {
                    pass(client, server, |bytes| {
                        let left = budget.fetch_sub(bytes, Ordering::Relaxed) - bytes;
                        if left < 0 {
                            // What was on its way is gone with the connection.
                            cuts.fetch_add(1, Ordering::Relaxed);
                            budget.store(i64::MAX, Ordering::Relaxed);
                        }
                        left >= 0
                    });
                });
            }
        });
        this
    }

    fn cut_after(&self, bytes: i64) {
        self.budget.store(bytes, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, may: impl Fn(i64) -> bool) {
    let mut buffer = [0_u8; 4_096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !may(i64::try_from(count).unwrap()) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// The network is cut in the middle of batches and commits: what is in doubt is asked for.
#[test]
fn a_cut_network_loses_and_doubles_nothing() {
    let servers = servers();
    let (Some(pg), Some(redis)) = (&servers.postgres, &servers.redis) else { return };
    let database = database(pg);
    let to_postgres = Proxy::new(host_of(pg));
    let to_redis = Proxy::new(host_of(redis));
    let through =
        |url: &str, proxy: &Proxy| url.replace(&host_of(url), &format!("127.0.0.1:{}", proxy.port));
    let mut place = Place {
        postgres: Some(through(&database, &to_postgres)),
        redis: Some((through(redis, &to_redis), prefix())),
        ..Place::new()
    };
    small(&mut place);
    let mut dice = Dice::new();
    let mut journal = Written::begin(&place.journal(), 1);
    let drain = place.start();
    let seq = |sink: &str| place.status(sink).map_or(0, |it| it.seq);
    for _ in 0..12 {
        let (of_postgres, of_redis) =
            (to_postgres.cuts.load(Ordering::Relaxed), to_redis.cuts.load(Ordering::Relaxed));
        to_postgres.cut_after(i64::try_from(dice.below(60_000)).unwrap());
        to_redis.cut_after(i64::try_from(dice.below(60_000)).unwrap());
        journal.some(1_500);
        journal.flush();
        until("both are cut", || {
            to_postgres.cuts.load(Ordering::Relaxed) > of_postgres
                && to_redis.cuts.load(Ordering::Relaxed) > of_redis
        });
    }
    let last = journal.last();
    until("all is there", || seq("postgres") >= last && seq("redis") >= last);
    journal.end();
    assert_eq!(drain.stop(), 0, "{}", place.log());
    redis_holds_all(&place);
    postgres_holds_all(&place);
}

/// The older of two drains is told so, writes nothing more and is not started again.
#[test]
fn the_older_of_two_drains_is_fenced() {
    let servers = servers();
    let (Some(pg), Some(redis)) = (&servers.postgres, &servers.redis) else { return };
    let mut place = Place {
        postgres: Some(database(pg)),
        redis: Some((redis.clone(), prefix())),
        ..Place::new()
    };
    small(&mut place);
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(3_000);
    journal.flush();
    let older = place.start();
    let seq = |sink: &str| place.status(sink).map_or(0, |it| it.seq);
    until("the older works", || seq("postgres") > 0 && seq("redis") > 0);
    older.signal("STOP"); // frozen wherever it is, perhaps in mid-batch
    // The frozen one's transaction holds the cursor's row until the server gives up on it or it goes on.
    let newer_place = Place {
        postgres: place.postgres.clone(),
        redis: place.redis.clone(),
        dir: tempfile::TempDir::new().unwrap(),
        more: place.more.clone(),
        ..Place::new()
    };
    std::os::unix::fs::symlink(place.journal(), newer_place.journal()).unwrap();
    let newer = newer_place.start();
    until("the newer takes over in redis", || {
        newer_place.status("redis").is_some_and(|it| it.epoch == 2)
    });
    older.signal("CONT");
    until("the newer takes over in postgres", || {
        newer_place.status("postgres").is_some_and(|it| it.epoch == 2)
    });
    journal.some(3_000);
    journal.flush();
    let last = journal.last();
    for sink in ["postgres", "redis"] {
        until("the older is fenced", || {
            place.status(sink).is_some_and(|it| it.state == State::Fenced)
        });
        until("the newer has all", || newer_place.status(sink).is_some_and(|it| it.seq >= last));
    }
    let mut older = older;
    assert_eq!(older.0.wait().unwrap().code(), Some(1), "{}", place.log());
    assert!(place.log().contains("another drain has taken over"), "{}", place.log());
    journal.end();
    assert_eq!(newer.stop(), 0, "{}", newer_place.log());
    postgres_holds_all(&place);
    redis_holds_all(&place);
}

#[test]
fn what_an_operator_can_get_wrong_is_told_in_a_line_and_stops_nobody_else() {
    let servers = servers();
    let Some(pg) = &servers.postgres else { return };
    let check = |postgres: String, password: &str, spoil: &dyn Fn(&str), code: i32, want: &str| {
        let place = Place { postgres: Some(postgres.clone()), ..Place::with_files() };
        let mut journal = Written::begin(&place.journal(), 1);
        journal.some(300);
        journal.end();
        spoil(&postgres);
        let mut command = place.command("run");
        if !password.is_empty() {
            command.env("PGPASSWORD", password);
        }
        let output = command.arg("--until-caught-up").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(want), "{want}: {said}");
        assert_eq!(output.status.code(), Some(code), "{said}");
        if !password.is_empty() {
            assert!(!said.contains(password), "a secret in the log: {said}");
        }
        files_hold_all(&place);
    };
    let nothing = |_: &str| {};
    check(database(pg), "hunter2", &nothing, 1, "password authentication failed");
    let missing = format!("{}/nobody_made_me", pg.rsplit_once('/').unwrap().0);
    check(missing, "", &nothing, 1, "database \"nobody_made_me\" does not exist");
    let nowhere = "postgres://kairos@127.0.0.1:1/x".to_owned();
    check(nowhere, "", &nothing, 1, "cannot connect");
    let newer = |url: &str| {
        let sql = "CREATE SCHEMA kairos; CREATE TABLE kairos.schema_migration (version integer \
                   PRIMARY KEY, name text, sha256 text, applied_at timestamptz DEFAULT now(), \
                   product_version text); \
                   INSERT INTO kairos.schema_migration VALUES (900, 'future', '', now(), '9.0')";
        connect(url).batch_execute(sql).unwrap();
    };
    let want = "has migration 900, which this kairos does not know";
    check(database(pg), "", &newer, 78, want);
    let changed = |url: &str| {
        newer(url);
        let sql = "UPDATE kairos.schema_migration SET version = 1, name = '0001_base'";
        connect(url).batch_execute(sql).unwrap();
    };
    check(database(pg), "", &changed, 78, "applied with other contents");
}

/// Two drains may start together: each step of the schema is made once.
#[test]
fn two_drains_migrate_at_once() {
    let Some(pg) = &servers().postgres else { return };
    let url = database(pg);
    let places: Vec<_> =
        (0..3).map(|_| Place { postgres: Some(url.clone()), ..Place::new() }).collect();
    let running: Vec<_> = places
        .iter()
        .map(|place| place.command("migrate").stderr(std::process::Stdio::piped()).spawn().unwrap())
        .collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let applied: i64 = connect(&url)
        .query_one("SELECT count(*) FROM kairos.schema_migration WHERE version < 1000", &[])
        .unwrap()
        .get(0);
    assert_eq!(applied, 3);
}

/// A journal whose last frame is torn: the damage is told and what is whole can be had; once the frame
/// is what it was, the sinks go on where they were.
#[test]
fn a_torn_tail_is_told_and_gone_on_from() {
    let Some(mut place) = Place::with_postgres() else { return };
    place.parquet = true;
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(2_000);
    let last = journal.last();
    journal.kill();
    tear(&place);
    let output = place.call("run", &["--until-caught-up"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("postgres: failed") && said.contains("parquet: failed"), "{said}");
    let next: i64 = connect(place.postgres.as_ref().unwrap())
        .query_one("SELECT next_seq FROM kairos.drain_offset", &[])
        .unwrap()
        .get(0);
    assert_eq!(next.unsigned_abs(), last, "everything before the torn frame arrived");
    tear(&place); // the same bits again: mended
    place.catch_up();
    all_hold_all(&place);
    let mut journal = Written::begin(&place.journal(), 2); // recovers
    journal.some(1_000);
    journal.end();
    place.catch_up();
    all_hold_all(&place);
}

/// Overwrites a bit in the last frame of the newest segment.
fn tear(place: &Place) {
    let mut segments: Vec<_> =
        fs::read_dir(place.journal().join("seg")).unwrap().map(|it| it.unwrap().path()).collect();
    segments.sort();
    let used = |path: &std::path::PathBuf| fs::read(path).unwrap().iter().rposition(|it| *it != 0);
    for path in segments.iter().rev() {
        let last = used(path).unwrap();
        if last > 8_192 + 64 {
            let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, last as u64 - 3).unwrap();
            file.write_all_at(&[byte[0] ^ 0x55], last as u64 - 3).unwrap();
            return;
        }
    }
    panic!("no segment in use");
}

/// One sink's server is down: the others go on as if nothing were.
#[test]
fn a_dead_server_holds_nobody_else_up() {
    let Some(redis) = servers().redis.clone() else { return };
    let place = Place {
        postgres: Some("postgres://kairos@127.0.0.1:1/x".into()),
        redis: Some((redis, prefix())),
        ..Place::with_files()
    };
    let mut journal = Written::begin(&place.journal(), 1);
    let drain = place.start();
    for _ in 0..5 {
        journal.some(500);
        journal.flush();
        let last = journal.last();
        until("redis follows", || place.status("redis").is_some_and(|it| it.seq >= last));
    }
    let postgres = place.status("postgres").unwrap();
    assert_eq!((postgres.state, postgres.seq), (State::Backoff, 0));
    journal.end();
    // A sink that waits for its server stops at once too.
    assert_eq!(drain.stop(), 0, "{}", place.log());
    files_hold_all(&place);
    redis_holds_all(&place);
    let lines = place.log().matches("postgres: backoff").count();
    assert_eq!(lines, 1, "said once, counted after: {}", place.log());
}

/// Nothing that a person may see holds the password.
#[test]
fn secrets_stay_where_they_are() {
    let Some(place) = Place::with_postgres() else { return };
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(200);
    journal.flush();
    let drain = place.start();
    until("it works", || place.status("postgres").is_some_and(|it| it.seq > 0));
    let pid = drain.0.id();
    let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let status = fs::read_to_string(place.run_dir().join("drain.json")).unwrap();
    let shown = Command::new("cat").arg(place.dir.path().join("kairos.toml")).output().unwrap();
    for text in [arguments, status, place.log(), String::from_utf8(shown.stdout).unwrap()] {
        assert!(!text.contains(super::harness::SECRET), "{text}");
    }
    journal.end();
    assert_eq!(drain.stop(), 0);
}
