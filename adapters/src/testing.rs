//! What the tests of several modules share.

mod fuzz;
pub(crate) mod mutate;
pub(crate) mod naive;
pub(crate) mod twins;

use std::env;
use std::path::{Path, PathBuf};

use kairos_logic::event::{Event, Flags, GapReason, News, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, Side, Stamp, VenueId};

use crate::binance::instruments::split_symbol;
use crate::session::{Arrival, MarketSession, Outbox};
use crate::venue::listing::{Fees, undescribed};

/// The folder of recorded frames; `None`, with a message, where it is absent.
pub(crate) fn captures() -> Option<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let folder = env::var_os("KAIROS_CAPTURES").unwrap_or_else(|| "../shared/captures".into());
    let folder = root.join(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no captures at {}", folder.display());
    None
}

/// A table of Binance instruments that nothing describes, and their ids.
pub(crate) fn table(symbols: &[&str]) -> (InstrumentTable, Vec<InstrumentId>) {
    table_of("binance", symbols, split_symbol)
}

/// A table of one venue whose instruments nothing describes, and their ids.
pub(crate) fn table_of(
    venue: &str,
    symbols: &[&str],
    split: fn(&str) -> Option<(&str, &str)>,
) -> (InstrumentTable, Vec<InstrumentId>) {
    let mut table = InstrumentTable::default();
    table.venues.push(venue.into());
    for symbol in symbols {
        let parts = split(symbol).unwrap();
        let it = undescribed(symbol, parts, VenueId(0), Fees::default(), &mut table);
        table.instruments.push(it);
    }
    let ids = table.iter().map(|(id, _)| id).collect();
    (table, ids)
}

/// An event in one line: what it says, without its times.
pub(crate) fn words(event: &Event) -> String {
    let i = event.instrument.0;
    match event.news() {
        News::Trade { price, qty, id, aggressor } => {
            format!("{i} trade {id} {aggressor:?} {}@{}", qty.0, price.0)
        }
        News::Quote { bid, bid_qty, ask, ask_qty } => {
            format!("{i} quote {}@{} {}@{}", bid_qty.0, bid.0, ask_qty.0, ask.0)
        }
        News::Book { side, price, qty, update, flags } => {
            let side = match side {
                Side::Buy => "bid",
                Side::Sell => "ask",
            };
            let marks =
                [(Flags::SNAPSHOT, " snapshot"), (Flags::CLEAR, " clear"), (Flags::LAST, " last")];
            let marks: String = marks
                .into_iter()
                .filter_map(|(flag, text)| flags.has(flag).then_some(text))
                .collect();
            format!("{i} {side} {}@{} u{update}{marks}", qty.0, price.0)
        }
        News::Gap { reason, expected, found } => {
            format!("{i} gap {} {expected} {found}", reason.text())
        }
        News::Status { code: StatusCode::Said, detail, more, .. } => {
            let words = Event::words_of(detail, more);
            format!("{i} said {:?}", String::from_utf8_lossy(&words).trim_end_matches('\0'))
        }
        // Its fault is counted, too; tests compare that.
        News::Status { code: code @ StatusCode::Malformed, detail, .. } => {
            format!("{i} {} {detail}", code.text())
        }
        News::Status { venue: _, code, detail, more: 0 } => format!("{i} {} {detail}", code.text()),
        News::Status { venue: _, code, detail, more } => {
            format!("{i} {} {detail} {more}", code.text())
        }
        other @ (News::Timer
        | News::Command { .. }
        | News::Fill { .. }
        | News::Report { .. }
        | News::Balance { .. }
        | News::Config { .. }
        | News::Nothing) => format!("{i} {other:?}"),
    }
}

/// Feeds a session one input, `<ms> <what> …`, and says what it leads to:
/// `open`, `close`, `alive`, `time`, `resync I|? `, `failed I`, `frame TEXT`, `rest TARGET BODY`,
/// `snapshot I|? BODY`.
pub(crate) fn drive(session: &mut dyn MarketSession, out: &mut Outbox, input: &str) -> Vec<String> {
    let (ms, input) = input.split_once(' ').unwrap();
    let at = Nanos(ms.parse::<u64>().unwrap() * 1_000_000);
    let (what, rest) = input.split_once(' ').unwrap_or((input, ""));
    let (field, body) = rest.split_once(' ').unwrap_or((rest, ""));
    let arrival = Arrival { at, recv: Stamp(1), number: at.0 / 1_000_000 };
    let id = || field.parse().ok().map(InstrumentId);
    let mut events = Vec::new();
    let publish = &mut |event: Event| events.push(words(&event));
    match what {
        "open" => session.on_open(at, out, publish),
        "close" => session.on_close(at, publish),
        "alive" => session.on_alive(at),
        "time" => session.on_time(at, out, publish),
        "failed" => session.on_snapshot_failed(at, id().unwrap()),
        "resync" => session.resync(at, id(), GapReason::Dropped, out, publish),
        "rest" => session.on_rest(arrival, Some(field), body.as_bytes(), out, publish),
        "frame" => session.on_frame(arrival, rest.as_bytes(), out, publish),
        "snapshot" => session.on_snapshot(arrival, id(), body.as_bytes(), out, publish),
        _ => panic!("no such input: {what}"),
    }
    let texts = out.texts().map(|text| format!("send {text}"));
    let asked = out.snapshots().iter().map(|it| format!("ask {}", it.path));
    let again = out.wants_reconnect().map(|why| format!("reconnect {why:?}"));
    let wishes: Vec<_> = texts.chain(asked).chain(again).collect();
    out.clear();
    events.extend(wishes);
    events
}

/// Bids and asks out of `b100=1` and `a101=2`, each as elements of a list in JSON: a level is the
/// price, the quantity and `more`.
pub(crate) fn levels(fields: &[&str], more: &str) -> (String, String) {
    let side = |mark: char| {
        let levels = fields.iter().filter_map(|it| it.strip_prefix(mark));
        let levels = levels.map(|it| {
            let (price, qty) = it.split_once('=').unwrap();
            format!(r#"["{price}","{qty}"{more}]"#)
        });
        levels.collect::<Vec<_>>().join(",")
    };
    (side('b'), side('a'))
}
