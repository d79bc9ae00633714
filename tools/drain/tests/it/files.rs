//! Parquet files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kairos_drain::status::State;

use super::harness::{Place, until};
use super::journal::Written;
use super::whole::{files_hold_all, files_of, journal_rows};

fn traded() -> Place {
    let place = Place::with_files();
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(3_000);
    journal.end();
    let mut journal = Written::begin(&place.journal(), 2);
    journal.some(2_000);
    journal.end();
    place
}

#[test]
fn files_hold_every_event_once() {
    let place = traded();
    place.catch_up();
    files_hold_all(&place);
    // One set for each run's records and one for the rest: each is of one run and one hour.
    let runs: Vec<_> = files_of(&place.files(), "trade")
        .iter()
        .map(|it| it.file_name().unwrap().to_string_lossy().split('-').next().unwrap().to_owned())
        .collect();
    assert_eq!(runs, ["1", "2"]);
}

/// DuckDB reads what the drain wrote, as an independent reader.
#[test]
fn an_independent_reader_agrees() {
    let Some(python) = duckdb() else { return };
    let place = traded();
    place.catch_up();
    let script = r#"
import duckdb, sys
dir = sys.argv[1]
for table in sys.argv[2:]:
    rows = duckdb.sql(f"SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM read_parquet('{dir}/{table}/*/*.parquet')").fetchone()
    print(table, *rows)
print(duckdb.sql(f"""
    SELECT i.symbol, w.word, t.price::DECIMAL(38,0) / 10 ** i.price_scale > 0, t.ts_ns
    FROM read_parquet('{dir}/trade/*/*.parquet', hive_partitioning = true) t
    JOIN read_parquet('{dir}/instrument/*.parquet') i USING (run, instrument)
    JOIN read_parquet('{dir}/word/word.parquet') w ON w."of" = 'side' AND w.number = t.side
    ORDER BY t.seq LIMIT 1""").fetchone())
"#;
    let rows = journal_rows(&place.journal());
    let output = Command::new(python)
        .args(["-c", script])
        .arg(place.files())
        .args(rows.keys())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut wanted = String::new();
    for (table, rows) in &rows {
        let (first, last) = (&rows[0][1], &rows[rows.len() - 1][1]);
        wanted += &format!("{table} {0} {0} {first} {last}\n", rows.len());
    }
    let first = &rows["trade"][0];
    let symbols = ["BTCUSDT", "ETHUSDT", "ETHBTC"];
    let symbol = symbols[first[3].parse::<usize>().unwrap()];
    let side = if first[7] == "0" { "BUY" } else { "SELL" };
    wanted += &format!("('{symbol}', '{side}', True, {})\n", first[2]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
}

/// A Python that has DuckDB, in an environment that is made once.
fn duckdb() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("duckdb");
    let python = dir.join("bin/python");
    let knows = |python: &Path| {
        let output = Command::new(python).args(["-c", "import duckdb"]).output();
        output.is_ok_and(|it| it.status.success())
    };
    if !knows(&python) {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&dir).output();
        let pip = ["-m", "pip", "install", "-q", "duckdb==1.4.4"];
        let installed = made.and_then(|_| Command::new(&python).args(pip).output());
        if !knows(&python) {
            eprintln!("SKIP: no Python with DuckDB can be had: {installed:?}");
            assert!(std::env::var_os("KAIROS_TEST_MUST_HAVE_SERVERS").is_none(), "no DuckDB");
            return None;
        }
    }
    Some(python)
}

/// A crash while a set gets its names: those that got theirs show, the others are finished.
#[test]
fn a_set_that_half_shows_is_finished() {
    let place = traded();
    place.catch_up();
    let newest = |table: &str| files_of(&place.files(), table).pop().unwrap();
    for table in ["trade", "decision", "fill"] {
        let shown = newest(table);
        fs::rename(&shown, shown.with_file_name(".tmp-set.parquet")).unwrap();
    }
    place.catch_up();
    files_hold_all(&place);
}

/// A crash before the first name: nothing shows, and it is written again.
#[test]
fn a_set_that_does_not_show_is_written_again() {
    let place = traded();
    place.catch_up();
    let newest = files_of(&place.files(), "trade").pop().unwrap();
    let name = newest.file_name().unwrap().to_owned();
    for table in journal_rows(&place.journal()).keys() {
        for file in files_of(&place.files(), table) {
            if file.file_name() == Some(&name) {
                fs::rename(&file, file.with_file_name(".tmp-set.parquet")).unwrap();
            }
        }
    }
    place.catch_up();
    files_hold_all(&place);
}

#[test]
fn what_is_not_whole_is_refused_and_told() {
    let check = |spoil: &dyn Fn(&Place), want: &str| {
        let place = traded();
        place.catch_up();
        spoil(&place);
        let output = place.call("run", &["--until-caught-up"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(want), "{said}");
    };
    let gone = |place: &Place| {
        fs::remove_file(files_of(&place.files(), "quote").pop().unwrap()).unwrap();
    };
    check(&gone, "table quote of 2-");
    let foreign = |place: &Place| {
        fs::write(place.files().join("trade/date=2023-11-14/notes.txt"), "hello").unwrap();
    };
    check(&foreign, "notes.txt: no file of kairos");
    let other = |place: &Place| {
        fs::remove_dir_all(place.journal()).unwrap();
        let mut journal = Written::begin(&place.journal(), 1);
        journal.some(9_000);
        journal.end();
    };
    check(&other, "files of journal ");
}

#[test]
fn told_to_stop_it_closes_its_files() {
    let place = Place::with_files();
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(500);
    journal.flush();
    let drain = place.start();
    // The file closes after a minute by itself; the stop closes it now.
    until("the drain has read all", || {
        place.status("parquet").is_some_and(|it| it.state == State::Live && it.lag_events > 0)
    });
    assert_eq!(drain.stop(), 0, "{}", place.log());
    files_hold_all(&place);
    journal.end();
}
