//! Whether a sink holds exactly what the journal holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use kairos_drain::sink::Cursor;
use kairos_drain::source::{Follow, Source, Step};
use kairos_drain::table::{Row, Table, Type};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

use super::harness::{Place, connect};

/// A row as text, for every sink the same.
pub(crate) type Cells = Vec<String>;

/// The rows of every table, in the order of the journal.
pub(crate) fn journal_rows(dir: &Path) -> BTreeMap<&'static str, Vec<Cells>> {
    let mut rows: BTreeMap<&'static str, Vec<Cells>> = BTreeMap::new();
    let mut source = Source::open(dir, Cursor::START, Follow::Committed).unwrap();
    loop {
        match source.next().unwrap() {
            Step::Entry(run, entry) => {
                let row = Row::of(run, &entry).unwrap();
                let show = |(column, cell): (&kairos_drain::table::Column, Option<i64>)| match cell
                {
                    None => "-".to_owned(),
                    Some(cell) if column.kind == Type::Bits => cell.cast_unsigned().to_string(),
                    Some(cell) => cell.to_string(),
                };
                rows.entry(row.table.name()).or_default().push(row.cells().map(show).collect());
            }
            Step::Mark => {}
            Step::Nothing { .. } => return rows,
        }
    }
}

/// The cursor behind the last event of a journal.
pub(crate) fn end_of(dir: &Path) -> Cursor {
    let mut source = Source::open(dir, Cursor::START, Follow::Committed).unwrap();
    while !matches!(source.next().unwrap(), Step::Nothing { .. }) {}
    source.cursor()
}

#[track_caller]
fn same(what: &str, found: &BTreeMap<&'static str, Vec<Cells>>, journal: &Path) {
    let wanted = journal_rows(journal);
    for table in Table::ALL.iter().map(|it| it.name()) {
        let none = Vec::new();
        let (found, wanted) =
            (found.get(table).unwrap_or(&none), wanted.get(table).unwrap_or(&none));
        assert_eq!(found.len(), wanted.len(), "{what}: rows of {table}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert_eq!(found, wanted, "{what}: {table}");
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the files have no other types")]
fn text_of(field: &Field) -> String {
    match field {
        Field::Null => "-".into(),
        Field::Bool(value) => i32::from(*value).to_string(),
        Field::Short(value) => value.to_string(),
        Field::Int(value) => value.to_string(),
        Field::Long(value) => value.to_string(),
        Field::ULong(value) => value.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Every file, by the library that wrote it.
#[track_caller]
pub(crate) fn files_hold_all(place: &Place) {
    let mut found: BTreeMap<&'static str, Vec<Cells>> = BTreeMap::new();
    for table in Table::ALL {
        let rows = found.entry(table.name()).or_default();
        for file in files_of(&place.files(), table.name()) {
            let reader = SerializedFileReader::new(File::open(&file).unwrap()).unwrap();
            for row in reader.get_row_iter(None).unwrap() {
                let row = row.unwrap();
                rows.push(row.get_column_iter().map(|(_, field)| text_of(field)).collect());
            }
        }
        rows.sort_by_key(|it| it[1].parse::<u64>().unwrap());
    }
    same("files", &found, &place.journal());
}

/// The files of a table that show, in the order of their ranges.
pub(crate) fn files_of(dir: &Path, table: &str) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for folder in std::fs::read_dir(dir.join(table)).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
            if !file.file_name().to_string_lossy().starts_with('.') {
                files.push(file.path());
            }
        }
    }
    files.sort();
    files
}

/// Every row of the database, and its cursor.
#[track_caller]
pub(crate) fn postgres_holds_all(place: &Place) {
    let mut client = connect(place.postgres.as_ref().unwrap());
    let schema = &place.schema;
    let mut found: BTreeMap<&'static str, Vec<Cells>> = BTreeMap::new();
    for table in Table::ALL {
        let shown = table.columns().iter().map(|column| match column.kind {
            Type::Bits => format!("{schema}.unsigned_id({})::text", column.name),
            Type::Bool => format!("{}::integer::text", column.name),
            Type::Small | Type::Int | Type::Big | Type::Nanos => format!("{}::text", column.name),
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        let query = format!("SELECT {shown} FROM {schema}.{0} ORDER BY {0}.seq", table.name());
        let rows = client.query(&query, &[]).unwrap().into_iter().map(|row| {
            (0..row.len())
                .map(|at| row.get::<_, Option<String>>(at).unwrap_or("-".into()))
                .collect()
        });
        found.insert(table.name(), rows.collect());
    }
    same("postgres", &found, &place.journal());
    let late: i64 = client
        .query_one(
            &format!(
                "SELECT count(*) FROM {schema}.trade WHERE ts <> to_timestamp(ts_ns / 1000 / 1e6)"
            ),
            &[],
        )
        .unwrap()
        .get(0);
    assert_eq!(late, 0, "ts is ts_ns to the microsecond");
    let cursor = format!("SELECT run, next_seq, chain_crc FROM {schema}.drain_offset");
    let row = client.query_one(&cursor, &[]);
    let row = row.unwrap();
    let end = end_of(&place.journal());
    let stored: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let wanted =
        (i64::try_from(end.run).unwrap(), i64::try_from(end.next_seq).unwrap(), i64::from(end.crc));
    assert_eq!(stored, wanted, "the cursor");
    bars_add_up(&mut client, place);
}

/// Bars of each width are what the journal's trades add up to.
#[track_caller]
fn bars_add_up(client: &mut postgres::Client, place: &Place) {
    let rows = journal_rows(&place.journal());
    for (bars, width) in [
        ("bar_1s", 1_000_000_000),
        ("bar_1m", 60_000_000_000),
        ("bar_1h", 3_600_000_000_000),
        ("bar_1d", 86_400_000_000_000_i64),
    ] {
        // By bucket, instrument and run: open, high, low, close, volume, trades.
        let mut wanted: BTreeMap<[i64; 3], [i64; 6]> = BTreeMap::new();
        for row in rows.get("trade").into_iter().flatten() {
            let number = |at: usize| row[at].parse::<i64>().unwrap();
            let (price, qty) = (number(5), number(6));
            let key = [number(2) / width * width, number(3), number(0)];
            let bar = wanted.entry(key).or_insert([price, price, price, price, 0, 0]);
            bar[1] = bar[1].max(price);
            bar[2] = bar[2].min(price);
            bar[3] = price;
            bar[4] += qty;
            bar[5] += 1;
        }
        let query = format!(
            "SELECT bucket, instrument::bigint, run, open, high, low, close, volume::bigint, trades \
             FROM {}.{bars}",
            place.schema
        );
        let mut found = BTreeMap::new();
        for row in client.query(&query, &[]).unwrap() {
            let cell = |at: usize| row.get::<_, i64>(at);
            let bar = [3, 4, 5, 6, 7, 8].map(cell);
            assert_eq!(found.insert([0, 1, 2].map(cell), bar), None, "{bars}: a bar twice");
        }
        assert_eq!(found, wanted, "{bars}");
    }
}

/// The ids of a stream, in order.
pub(crate) fn stream_ids(place: &Place, stream: &str) -> Vec<String> {
    let (url, prefix) = place.redis.as_ref().unwrap();
    let mut connection = super::harness::open_redis(url);
    let entries: Vec<(String, Vec<String>)> = redis::cmd("XRANGE")
        .arg(format!("{prefix}{stream}"))
        .arg("-")
        .arg("+")
        .query(&mut connection)
        .unwrap();
    // What a power loss took back stays under the number of its run.
    let runs = kairos_journal::Journal::open(&place.journal()).unwrap().runs().unwrap();
    let is_kept = |id: &String| {
        let (run, seq) = id.split_once('-').unwrap();
        let (run, seq): (u64, u64) = (run.parse().unwrap(), seq.parse().unwrap());
        let last = runs.iter().find(|it| it.run == run).and_then(|it| it.last_seq);
        last.is_none_or(|last| seq <= last)
    };
    entries.into_iter().map(|it| it.0).filter(is_kept).collect()
}

/// The streams without holes or doubles, the cursor, and the last values.
#[track_caller]
pub(crate) fn redis_holds_all(place: &Place) {
    let rows = journal_rows(&place.journal());
    let id = |row: &Cells| format!("{}-{}", row[0], row[1]);
    let ids = |tables: &[&str], keep: &dyn Fn(&str, &Cells) -> bool| {
        let mut found: Vec<(u64, String)> = Vec::new();
        for table in tables {
            let rows = rows.get(table).map_or(&[][..], Vec::as_slice);
            let kept = rows.iter().filter(|row| keep(table, row));
            found.extend(kept.map(|row| (row[1].parse().unwrap(), id(row))));
        }
        found.sort();
        found.into_iter().map(|it| it.1).collect::<Vec<_>>()
    };
    let column = |table: Table, name: &str| {
        table.columns().iter().position(|column| column.name == name).unwrap()
    };
    let (action, approved) =
        (column(Table::Decision, "action"), column(Table::Decision, "approved"));
    let of_orders = |table: &str, row: &Cells| table != "decision" || row[action] != "3";
    let of_risk =
        |_: &str, row: &Cells| row[action] == "3" || (row[action] == "1" && row[approved] == "0");
    assert_eq!(
        stream_ids(place, "stream:orders"),
        ids(&["decision", "order_event"], &of_orders),
        "stream:orders"
    );
    assert_eq!(stream_ids(place, "stream:fills"), ids(&["fill"], &|_, _| true), "stream:fills");
    assert_eq!(stream_ids(place, "stream:risk"), ids(&["decision"], &of_risk), "stream:risk");

    let (url, prefix) = place.redis.as_ref().unwrap();
    let mut connection = super::harness::open_redis(url);
    let end = end_of(&place.journal());
    let stored: Vec<String> = redis::cmd("HMGET")
        .arg(format!("{prefix}drain:offset:0"))
        .arg(&["run", "next_seq", "crc"])
        .query(&mut connection)
        .unwrap();
    let wanted = [end.run.to_string(), end.next_seq.to_string(), end.crc.to_string()];
    assert_eq!(stored, wanted, "the cursor");
    positions_add_up(place, &rows, &mut connection);
}

/// Positions are what the fills of the newest run add up to.
#[track_caller]
fn positions_add_up(
    place: &Place,
    rows: &BTreeMap<&'static str, Vec<Cells>>,
    connection: &mut redis::Connection,
) {
    let at =
        |name: &str| Table::Fill.columns().iter().position(|column| column.name == name).unwrap();
    let newest = end_of(&place.journal()).run.to_string();
    let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
    for row in rows.get("fill").into_iter().flatten().filter(|row| row[0] == newest) {
        let qty: i64 = row[at("qty")].parse().unwrap();
        let signed = if row[at("side")] == "0" { qty } else { -qty };
        *wanted.entry(row[at("instrument")].clone()).or_default() += signed;
    }
    let keys = ["BTC-USDT", "ETH-USDT", "ETH-BTC"];
    let prefix = &place.redis.as_ref().unwrap().1;
    for (instrument, wanted) in wanted {
        let key = keys[instrument.parse::<usize>().unwrap()];
        let text: String = redis::cmd("GET")
            .arg(format!("{prefix}position:paper:{key}.binance"))
            .query(connection)
            .unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["units"].as_i64(), Some(wanted), "position {key}");
    }
}

/// Every sink of a place.
#[track_caller]
pub(crate) fn all_hold_all(place: &Place) {
    if place.parquet {
        files_hold_all(place);
    }
    if place.postgres.is_some() {
        postgres_holds_all(place);
    }
    if place.redis.is_some() {
        redis_holds_all(place);
    }
}
