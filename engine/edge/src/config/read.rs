//! Section by section: from values as written to values believed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use kairos_logic::params::{Param, Params};
use kairos_logic::risk::{HaltPolicy, Limits};
use kairos_logic::units::{MONEY_SCALE, Money, SCALE_MAX, StrategyId};

use super::Config;
use super::cores::{Cores, Seat, Wait};
use super::model::{
    Engine, Execution, ExecutionMode, Feed, Gate, HotRing, InstrumentSpec, Journal, LagAction,
    Logging, MakerModel, MarketData, NotReady, Pace, Paper, Placement, Profile, RecoverMode,
    Retention, Strategy, Venue,
};
use super::problem::Problem;
use super::section::{Log, Section, decimal};
use super::tree::{self, Node, Table, Value};

/// Any whole number that TOML holds.
const ANY: RangeInclusive<u64> = 0..=i64::MAX.unsigned_abs();
const MIB: u64 = 1 << 20;
/// Venues that this build has a protocol for.
const VENUES: [&str; 5] = ["binance", "okx", "coinbase", "kraken", "kucoin"];

/// Checks a merged tree. The configuration is there whenever the tree could be read at all; it is
/// one to believe only without problems.
pub(super) fn config(tree: Table, usable: Option<&[u16]>) -> (Option<Config>, Vec<Problem>) {
    let log = Log::default();
    let config = read(&tree, usable, &log);
    let (problems, _) = log.into_parts();
    (Some(Config { tree, ..config }), problems)
}

/// Reads a configuration that has one of everything, and lists the keys that were asked for.
pub(super) fn known_keys() -> Vec<String> {
    let one_of_everything = "[venues.v]\n[instruments.i]\n[strategies.s]\n";
    let log = Log::default();
    if let Ok(tree) = tree::parse("", one_of_everything) {
        read(&tree, None, &log);
    }
    log.into_parts().1.into_iter().collect()
}

fn read(tree: &Table, usable: Option<&[u16]>, log: &Log) -> Config {
    let mut root = Section::root(tree, log);
    let engine = engine(root.section("engine"));
    let venues = venues(root.section("venues"));
    let feed = feed(root.section("feed"));
    let config = Config {
        cores: cores(root.section("cores"), &venues, usable),
        journal: journal(root.section("journal"), &engine.name),
        instruments: instruments(root.section("instruments"), &venues),
        strategies: strategies(root.section("strategies")),
        risk: risk(root.section("risk"), root.section("orders"), feed.stale_after_ms),
        paper: paper(root.section("paper")),
        execution: execution(root.section("execution")),
        logging: logging(root.section("logging")),
        engine,
        venues,
        feed,
        tree: Table::new(),
    };
    root.finish();
    config
}

fn engine(mut section: Section<'_>) -> Engine {
    let name = section.text("name").unwrap_or_else(|| "main".to_owned());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    // `.` and `..` would name other directories.
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(allowed) {
        let rule = "must be 1 to 64 of A-Z a-z 0-9 . _ - and not begin with a point";
        section.wrong_if_written("name", rule);
    }
    let profiles = [("development", Profile::Development), ("production", Profile::Production)];
    let profile = section.choice("profile", Profile::Development, &profiles);
    let seed = section.integer("seed", 42, ANY);
    let currency =
        section.text("currency").map_or_else(|| "USDT".to_owned(), |it| it.to_ascii_uppercase());
    let slots = section.power_of_two("ring_slots", 65_536, 1_024..=1 << 24);
    let timer_ms = section.integer("timer_ms", 100, 1..=60_000);
    let run_dir = section.text("run_dir").map(PathBuf::from);
    section.finish();
    Engine {
        name,
        profile,
        seed,
        currency,
        ring_slots: usize::try_from(slots).unwrap_or(65_536),
        timer_ms,
        run_dir,
    }
}

fn cores(mut section: Section<'_>, venues: &[Venue], usable: Option<&[u16]>) -> Cores {
    // Without the section everything shares the last usable CPU, the one that interrupts and other
    // programs use least, and gives way to them.
    let last = usable.and_then(|cpus| cpus.iter().max()).copied();
    let fallback = last.unwrap_or(0);
    let wait_default = if section.is_present() { Wait::Spin } else { Wait::Yield };
    let mut seats = Vec::new();
    feeds(&mut section, venues, fallback, usable, &mut seats);
    for (key, seat) in [
        ("journal", Seat::Journal),
        ("strategy", Seat::Strategy),
        ("risk", Seat::Risk),
        ("execution", Seat::Execution),
    ] {
        let cpu = match section.find(key) {
            Some(node) => cpu(&section, key, node, usable).unwrap_or(fallback),
            None => fallback,
        };
        seats.push((seat, cpu));
    }
    let housekeeping = housekeeping(&mut section, &seats, usable);
    let waits = [("spin", Wait::Spin), ("yield", Wait::Yield), ("park", Wait::Park)];
    let wait = section.choice("wait", wait_default, &waits);
    let cores = Cores { seats, housekeeping, wait };
    let threads = cores.threads().len();
    if let (Wait::Spin, Some(usable)) = (wait, usable)
        && threads > usable.len()
    {
        let rule = format!(
            "{threads} spinning threads on {} usable CPUs {usable:?}; give seats the same CPU \
                 to fuse them, or set wait to \"yield\" or \"park\"",
            usable.len()
        );
        match section.find("wait") {
            Some(node) => section.wrong("wait", node, rule),
            None => section.default_is_wrong("wait", "\"spin\"", rule),
        }
    }
    section.finish();
    cores
}

/// `cores.feed`: one CPU for all venues, or a table with one for each.
fn feeds(
    section: &mut Section<'_>,
    venues: &[Venue],
    fallback: u16,
    usable: Option<&[u16]>,
    seats: &mut Vec<(Seat, u16)>,
) {
    let node = section.find("feed");
    let one = match node.map(|node| &node.value) {
        Some(Value::Table(table)) => {
            for (name, node) in table {
                let key = format!("feed.{name}");
                cpu(section, &key, node, usable);
                if !venues.iter().any(|venue| venue.name == *name) {
                    section.wrong(&key, node, "is not an enabled venue");
                }
            }
            None
        }
        Some(_) => node.and_then(|node| cpu(section, "feed", node, usable)),
        None => None,
    };
    for venue in venues {
        let own = match node.map(|node| &node.value) {
            Some(Value::Table(table)) => {
                if !table.contains_key(&venue.name) {
                    let rule = format!("names no CPU for venue {}", venue.name);
                    section.missing("feed", rule);
                }
                let found = table.get(&venue.name);
                found.and_then(|node| cpu_number(&node.value))
            }
            _ => one,
        };
        seats.push((Seat::Feed(venue.name.clone()), own.unwrap_or(fallback)));
    }
}

fn housekeeping(
    section: &mut Section<'_>,
    seats: &[(Seat, u16)],
    usable: Option<&[u16]>,
) -> Vec<u16> {
    let taken = |cpu: &u16| seats.iter().any(|(_, other)| other == cpu);
    let Some(node) = section.find("housekeeping") else {
        let all = usable.unwrap_or(&[]).iter().copied();
        return all.filter(|cpu| !taken(cpu)).collect();
    };
    let Value::List(values) = &node.value else {
        section.wrong("housekeeping", node, "must be a list of CPU numbers");
        return Vec::new();
    };
    let cpus: Option<Vec<u16>> = values.iter().map(cpu_number).collect();
    let Some(cpus) = cpus else {
        section.wrong("housekeeping", node, "must be a list of CPU numbers");
        return Vec::new();
    };
    if let Some(usable) = usable
        && cpus.iter().any(|cpu| !usable.contains(cpu))
    {
        let rule = format!("not all among the usable CPUs {usable:?}");
        section.wrong("housekeeping", node, rule);
    }
    cpus
}

fn cpu_number(value: &Value) -> Option<u16> {
    value.as_integer().and_then(|number| u16::try_from(number).ok())
}

/// The CPU as written. One that is not usable is a problem and still counts as a CPU of its own,
/// so that threads are counted as the operator drew them.
fn cpu(section: &Section<'_>, key: &str, node: &Node, usable: Option<&[u16]>) -> Option<u16> {
    let cpu = cpu_number(&node.value);
    match (cpu, usable) {
        (None, _) => section.wrong(key, node, "must be the number of a CPU"),
        (Some(cpu), Some(usable)) if !usable.contains(&cpu) => {
            section.wrong(key, node, format!("not among the usable CPUs {usable:?}"));
        }
        (Some(_), _) => {}
    }
    cpu
}

fn journal(mut section: Section<'_>, engine: &str) -> Journal {
    let placement = placement(&mut section, engine);
    let dir = section
        .text("dir")
        .map_or_else(|| PathBuf::from(format!("/var/lib/kairos/{engine}/journal")), PathBuf::from);
    let recover = recover(section.section("recover"));
    let journal = Journal {
        dir,
        placement,
        retention: retention(&mut section),
        segment_bytes: segment_bytes(&mut section),
        gate: section.choice(
            "gate",
            Gate::Committed,
            &[
                (Gate::Committed.text(), Gate::Committed),
                (Gate::Durable.text(), Gate::Durable),
                (Gate::Off.text(), Gate::Off),
            ],
        ),
        flush_interval_ms: section.integer("flush_interval_ms", 10, 1..=10_000),
        flush_bytes: section.integer("flush_bytes", MIB, 4_096..=1 << 40),
        ready_min: usize::try_from(section.integer("ready_min", 2, 1..=64)).unwrap_or(2),
        prefault_ahead: section.integer("prefault_ahead_mib", 16, 0..=1 << 20) * MIB,
        frame_max: narrow(section.integer("frame_max", 65_536, 57_344..=65_536)),
        not_ready_spin_us: narrow(section.integer("not_ready_spin_us", 50, 0..=1_000_000)),
        not_ready: section.choice(
            "not_ready_policy",
            NotReady::Halt,
            &[("halt", NotReady::Halt), ("block", NotReady::Block)],
        ),
        durable_lag_alarm_ms: section.integer("durable_lag_alarm_ms", 200, 1..=3_600_000),
        durable_lag_act_ms: section.integer("durable_lag_act_ms", 2_000, 1..=3_600_000),
        lag_action: section.choice("lag_action", LagAction::Alarm, &LAG_ACTIONS),
        archiver_failed_action: section.choice(
            "archiver_failed_action",
            LagAction::Halt,
            &LAG_ACTIONS,
        ),
        recover: recover.0,
        accept_loss: recover.1,
    };
    section.finish();
    journal
}

const LAG_ACTIONS: [(&str, LagAction); 3] = [
    ("alarm", LagAction::Alarm),
    ("reduce_only", LagAction::ReduceOnly),
    ("halt", LagAction::Halt),
];

fn placement(section: &mut Section<'_>, engine: &str) -> Placement {
    let is_hot = section.choice("placement", false, &[("direct", false), ("hot", true)]);
    let dir = section.text("hot_dir");
    let ring = HotRing {
        dir: dir.map_or_else(|| PathBuf::from(format!("/run/kairos-hot/{engine}")), PathBuf::from),
        segments: usize::try_from(section.integer("hot_segments", 8, 4..=64)).unwrap_or(8),
        archiver_wait_ms: section.integer("archiver_wait_ms", 10_000, 1..=3_600_000),
    };
    // Checked in any case: one layer may describe the ring, and another one choose.
    if is_hot { Placement::Hot(ring) } else { Placement::Direct }
}

fn retention(section: &mut Section<'_>) -> Retention {
    let level = section.integer("compress", 3, 0..=19);
    Retention {
        compress: i32::try_from(level).ok().filter(|level| *level > 0),
        keep_days: section.integer_if("keep_days", 1..=36_500),
        max_bytes: section.integer_if("max_mib", 1..=1 << 30).map(|mib| mib * MIB),
        keep_bytes_min: section.integer("keep_mib_min", 0, 0..=1 << 30) * MIB,
        prune_safety_s: section.integer("prune_safety_s", 3_600, 0..=7_200),
        required_sinks: section.texts("required_sinks").unwrap_or_default(),
        drop_undrained: section.boolean("drop_undrained", false),
    }
}

/// `segment_mib`, or `segment_bytes` for who counts in bytes.
fn segment_bytes(section: &mut Section<'_>) -> u64 {
    let mib = section.power_of_two("segment_mib", 256, 2..=1 << 16) * MIB;
    let bytes = section.power_of_two("segment_bytes", 256 * MIB, 2 * MIB..=1 << 36);
    match (section.find("segment_mib"), section.find("segment_bytes")) {
        (Some(_), Some(node)) => {
            section.wrong("segment_bytes", node, "segment_mib says it already");
            mib
        }
        (None, Some(_)) => bytes,
        (_, None) => mib,
    }
}

fn recover(mut section: Section<'_>) -> (RecoverMode, bool) {
    let mode = section.choice(
        "mode",
        RecoverMode::TolerateTornTail,
        &[
            ("absolute", RecoverMode::Absolute),
            ("tolerate-torn-tail", RecoverMode::TolerateTornTail),
            ("point-in-time", RecoverMode::PointInTime),
        ],
    );
    let accept_loss = section.boolean("accept_loss", false);
    section.finish();
    (mode, accept_loss)
}

fn venues(section: Section<'_>) -> Vec<Venue> {
    let mut venues = Vec::new();
    for (name, mut section) in section.named("<v>") {
        // One that is off is kept for another day and not judged.
        if section.boolean("enabled", true) {
            venues.push(venue(name, section));
        }
    }
    venues
}

fn venue(name: String, mut section: Section<'_>) -> Venue {
    if !VENUES.contains(&name.as_str()) {
        let known = VENUES.join(", ");
        section
            .missing("enabled", format!("this build has no protocol for {name}; it has {known}"));
    }
    let words =
        [("live", MarketData::Live), ("capture", MarketData::Capture), ("sim", MarketData::Sim)];
    let market_data = section.choice("market_data", MarketData::Live, &words);
    let ws_public_url = address(&mut section, "ws_public_url", ["ws", "wss"]);
    let rest_url = address(&mut section, "rest_url", ["http", "https"]);
    let ca_file = section.text("ca_file").map(PathBuf::from);
    let busy_poll_us = section.integer("busy_poll_us", 0, 0..=1_000_000);
    let quick_ack = section.boolean("quick_ack", false);
    let kernel_stamps = section.boolean("kernel_stamps", false);
    let execution = section.choice("execution", "paper", &[("paper", "paper"), ("live", "live")]);
    if let ("live", Some(node)) = (execution, section.find("execution")) {
        let rule = "live orders are not part of this build; use \"paper\"";
        section.wrong("execution", node, rule);
    }
    let instruments = section.texts("instruments").unwrap_or_default();
    let repeated = (1..instruments.len()).any(|end| instruments[..end].contains(&instruments[end]));
    match section.find("instruments") {
        Some(node) if repeated => section.wrong("instruments", node, "names one of them twice"),
        Some(node) if instruments.iter().any(String::is_empty) => {
            section.wrong("instruments", node, "must not be empty texts");
        }
        Some(node) if matches!(&node.value, Value::List(list) if list.is_empty()) => {
            section.wrong("instruments", node, "must name at least one symbol of the venue");
        }
        Some(_) => {}
        None => section.missing("instruments", "must name at least one symbol of the venue"),
    }
    let captures = section.texts("captures").unwrap_or_default();
    if market_data == MarketData::Capture && captures.is_empty() {
        let rule = "must name at least one capture file with market_data = \"capture\"";
        match section.find("captures") {
            Some(node) => section.wrong("captures", node, rule),
            None => section.missing("captures", rule),
        }
    }
    let pace = pace(&mut section);
    // 100 % either way is no fee but a typing error.
    let fee = "must be a fraction such as 0.0002, between -1 and 1";
    let maker = section.fraction("maker_fee", 200, -999_999..=999_999, fee);
    let taker = section.fraction("taker_fee", 400, -999_999..=999_999, fee);
    section.finish();
    Venue {
        name,
        market_data,
        execution: ExecutionMode::Paper,
        instruments,
        captures: captures.into_iter().map(PathBuf::from).collect(),
        pace,
        ws_public_url,
        rest_url,
        ca_file,
        busy_poll_us: u32::try_from(busy_poll_us).unwrap_or(0),
        quick_ack,
        kernel_stamps,
        maker_fee_ppm: i32::try_from(maker).unwrap_or(200),
        taker_fee_ppm: i32::try_from(taker).unwrap_or(400),
    }
}

/// An address that must begin with one of two schemes; what is behind it is judged when it is used.
fn address(
    section: &mut Section<'_>,
    key: &'static str,
    [plain, encrypted]: [&str; 2],
) -> Option<String> {
    let text = section.text(key)?;
    let known = [plain, encrypted].iter().any(|scheme| {
        let rest = text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
        rest.is_some_and(|rest| !rest.is_empty())
    });
    if !known && let Some(node) = section.find(key) {
        let rule = format!("must begin with {encrypted}://, or with {plain}:// to this host");
        section.wrong(key, node, rule);
    }
    Some(text)
}

fn pace(section: &mut Section<'_>) -> Pace {
    let Some(node) = section.find("pace") else {
        return Pace::Max;
    };
    let word = node.value.as_text().unwrap_or("");
    if word.eq_ignore_ascii_case("max") {
        return Pace::Max;
    }
    if word.eq_ignore_ascii_case("recorded") {
        return Pace::Recorded;
    }
    match decimal(&node.value, 6).map(u64::try_from) {
        Ok(Ok(ppm @ 1..)) => Pace::FactorPpm(ppm),
        _ => {
            let rule = "must be \"max\", \"recorded\" or a positive factor such as 10.0";
            section.wrong("pace", node, rule);
            Pace::Max
        }
    }
}

fn instruments(section: Section<'_>, venues: &[Venue]) -> Vec<InstrumentSpec> {
    let sections = section.named("<name>");
    sections.into_iter().map(|(name, section)| instrument(name, section, venues)).collect()
}

fn instrument(name: String, mut section: Section<'_>, venues: &[Venue]) -> InstrumentSpec {
    let venue = section.text("venue").unwrap_or_else(|| match venues {
        [only] => only.name.clone(),
        _ => {
            section.missing("venue", "must name the venue where there is not just one");
            String::new()
        }
    });
    let upper = |text: String| text.to_ascii_uppercase();
    let scale = |section: &mut Section<'_>, key| {
        let scale = section.integer_if(key, 0..=u64::from(SCALE_MAX));
        scale.and_then(|scale| u8::try_from(scale).ok())
    };
    let spec = InstrumentSpec {
        symbol: section.text("venue_symbol").unwrap_or_else(|| name.clone()),
        base: section.text("base").map(upper),
        quote: section.text("quote").map(upper),
        price_scale: scale(&mut section, "price_scale"),
        qty_scale: scale(&mut section, "qty_scale"),
        tick_size: step(&mut section, "tick_size"),
        lot_size: step(&mut section, "lot_size"),
        min_qty: step(&mut section, "min_qty"),
        min_notional: section
            .find("min_notional")
            .is_some()
            .then(|| section.money("min_notional", Money(0))),
        name,
        venue,
    };
    section.finish();
    spec
}

/// A positive decimal, kept as text until the instrument's scale is known.
fn step(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let rule = "must be a positive decimal with at most 12 decimals";
    section.decimal(key, SCALE_MAX, 1..=i64::MAX, rule)?;
    section.find(key)?.value.as_number_text()
}

fn strategies(section: Section<'_>) -> Vec<Strategy> {
    let sections = section.named("<id>");
    let mut strategies = Vec::new();
    for (id, mut section) in sections {
        if strategies.len() == StrategyId::COUNT_MAX {
            let rule = format!("at most {} strategies run together", StrategyId::COUNT_MAX);
            section.missing("kind", rule);
            continue;
        }
        let kind = section.text("kind");
        if kind.is_none() && section.find("kind").is_none() {
            section.missing("kind", "must name the kind of strategy");
        }
        let enabled = section.boolean("enabled", true);
        let instruments = section.texts("instruments");
        if let (Some([]), Some(node)) = (instruments.as_deref(), section.find("instruments")) {
            section.wrong("instruments", node, "must name at least one, or be left out for all");
        }
        let mut params = BTreeMap::new();
        for (key, node) in section.rest() {
            match param(&node.value) {
                Some(value) => {
                    params.insert(key, value);
                }
                None => section.wrong(&key, node, "must be a value or a list of values"),
            }
        }
        strategies.push(Strategy {
            id,
            kind: kind.unwrap_or_default(),
            enabled,
            instruments,
            params: Params(params),
        });
    }
    strategies
}

fn param(value: &Value) -> Option<Param> {
    Some(match value {
        Value::Text(text) | Value::Decimal(text) => Param::Text(text.clone()),
        Value::Integer(number) => Param::Integer(*number),
        Value::Boolean(value) => Param::Boolean(*value),
        Value::List(values) => Param::List(values.iter().map(param).collect::<Option<_>>()?),
        Value::Table(_) => return None,
    })
}

fn risk(mut section: Section<'_>, orders: Section<'_>, stale_after_ms: u64) -> Limits {
    let off = Limits::default();
    let limits = Limits {
        max_order_notional: section.money("max_order_notional", off.max_order_notional),
        max_position_notional: section.money("max_position_notional", off.max_position_notional),
        max_position_qty: max_position_qty(&mut section, off.max_position_qty),
        max_notional: section.money("max_notional", off.max_notional),
        price_band_bps: count(&mut section, "price_band_bps", off.price_band_bps, 0..=10_000),
        max_orders_per_second_instrument: count(
            &mut section,
            "max_orders_per_second_instrument",
            off.max_orders_per_second_instrument,
            0..=u64::from(Limits::ORDERS_PER_SECOND_MAX),
        ),
        max_orders_per_second: count(
            &mut section,
            "max_orders_per_second",
            off.max_orders_per_second,
            0..=u64::from(Limits::ORDERS_PER_SECOND_MAX),
        ),
        max_open_orders: count(&mut section, "max_open_orders", off.max_open_orders, 0..=1_024),
        stale_after_ms: narrow(stale_after_ms),
        allow_short: allow_short(&mut section, orders, off.allow_short),
        max_drawdown_ppm: max_drawdown(&mut section, off.max_drawdown_ppm),
        max_daily_loss: section.money("max_daily_loss", off.max_daily_loss),
        reject_breaker: count(
            &mut section,
            "reject_breaker",
            off.reject_breaker,
            0..=u64::from(Limits::REJECTS_MAX),
        ),
        reject_window_ms: count(
            &mut section,
            "reject_window_ms",
            off.reject_window_ms,
            1..=3_600_000,
        ),
        halt_policy: section.choice(
            "halt_policy",
            HaltPolicy::Cancel,
            &[("cancel", HaltPolicy::Cancel)],
        ),
    };
    section.finish();
    limits
}

/// `allow_short` of `[orders]`, or of `[risk]`.
fn allow_short(section: &mut Section<'_>, mut orders: Section<'_>, default: bool) -> bool {
    let of_risk = section.boolean("allow_short", default);
    let of_orders = orders.boolean("allow_short", default);
    let allowed = match (section.find("allow_short"), orders.find("allow_short")) {
        (Some(_), Some(node)) => {
            orders.wrong("allow_short", node, "risk.allow_short says it already");
            of_risk
        }
        (None, Some(_)) => of_orders,
        (_, None) => of_risk,
    };
    orders.finish();
    allowed
}

/// `max_position_qty`, or by its older name `max_position_size`.
fn max_position_qty(section: &mut Section<'_>, default: Money) -> Money {
    let qty = section.money("max_position_qty", default);
    let size = section.money("max_position_size", default);
    match (section.find("max_position_qty"), section.find("max_position_size")) {
        (Some(_), Some(node)) => {
            section.wrong("max_position_size", node, "max_position_qty says it already");
            qty
        }
        (None, Some(_)) => size,
        (_, None) => qty,
    }
}

fn max_drawdown(section: &mut Section<'_>, default: u32) -> u32 {
    let rule = "must be a fraction of the peak, such as 0.30, from 0 to 1";
    let ppm = section.fraction("max_drawdown_pct", i64::from(default), 0..=1_000_000, rule);
    u32::try_from(ppm).unwrap_or(default)
}

fn count(
    section: &mut Section<'_>,
    key: &'static str,
    default: u32,
    range: RangeInclusive<u64>,
) -> u32 {
    narrow(section.integer(key, u64::from(default), range))
}

/// For numbers whose range was checked to fit.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn paper(mut section: Section<'_>) -> Paper {
    let mut balances = section.section("balances");
    let present = balances.is_present();
    let mut found = BTreeMap::new();
    for (currency, node) in balances.entries() {
        match decimal(&node.value, MONEY_SCALE) {
            Ok(units @ 0..) => {
                found.insert(currency.to_ascii_uppercase(), Money(units));
            }
            Ok(_) | Err(_) => {
                let rule = "must be an amount of at least 0 with at most 8 decimals";
                balances.wrong(&currency, node, rule);
            }
        }
    }
    section.finish();
    Paper { balances: present.then_some(found) }
}

fn execution(mut section: Section<'_>) -> Execution {
    let latency_ns = span(&mut section, "latency_ns", "latency_ms", 30_000_000);
    let jitter_ns = span(&mut section, "jitter_ns", "jitter_ms", 5_000_000);
    let response_latency_ns = span(&mut section, "response_latency_ns", "response_latency_ms", 0);
    let models = [("queue", MakerModel::Queue), ("probability", MakerModel::Probability)];
    let maker_model = section.choice("maker_model", MakerModel::Queue, &models);
    let eta =
        section.fraction("maker_queue_eta", 1_000_000, 1..=i64::MAX, "must be a positive number");
    section.finish();
    Execution {
        latency_ns,
        jitter_ns,
        response_latency_ns,
        maker_model,
        maker_queue_eta_ppm: eta.unsigned_abs(),
    }
}

/// A time in nanoseconds that may be written in milliseconds instead. At most a minute.
fn span(section: &mut Section<'_>, ns: &'static str, ms: &'static str, default: u64) -> u64 {
    let in_ns = section.integer_if(ns, 0..=60_000_000_000);
    let in_ms = section.integer_if(ms, 0..=60_000);
    if let (Some(_), Some(node)) = (in_ns, section.find(ms)) {
        section.wrong(ms, node, format!("{ns} says it already"));
    }
    in_ns.or(in_ms.map(|ms| ms * 1_000_000)).unwrap_or(default)
}

fn feed(mut section: Section<'_>) -> Feed {
    let attempts = section.integer("reconnect_max_attempts", 0, 0..=1_000_000);
    let depth = section.integer("orderbook_depth", 4_096, 1..=4_096);
    let feed = Feed {
        hold_ms: section.integer("hold_ms", 50, 0..=60_000),
        stale_after_ms: section.integer("stale_after_ms", 5_000, 0..=86_400_000),
        orderbook_depth: usize::try_from(depth).unwrap_or(4_096),
        reconnect_initial_ms: section.integer("reconnect_initial_ms", 250, 1..=60_000),
        reconnect_max_ms: section.integer("reconnect_max_ms", 10_000, 1..=3_600_000),
        reconnect_max_attempts: u32::try_from(attempts).unwrap_or(0),
    };
    section.finish();
    feed
}

fn logging(mut section: Section<'_>) -> Logging {
    let filter = section.text("filter").unwrap_or_else(|| "info".to_owned());
    section.finish();
    Logging { filter }
}
