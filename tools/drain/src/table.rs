//! The tables that sinks with rows write: one list, for every one of them.
//!
//! Each logical frame is one row of one table, so that rows can be counted against the journal.
//! Rows hold what the frame holds: integers, with the scales in the table `instrument`. Enumerations
//! are the numbers that stand in the journal; the table `word` says what they mean.

use kairos_edge::frames::Record;
use kairos_logic::code::Code;
use kairos_logic::event::{Event, GapReason, Kind, News, ReportState, StatusCode, Verb};
use kairos_logic::order::{
    Action, Decision, OrderFlags, OrderType, Reason, RiskState, TimeInForce, Verdict,
};
use kairos_logic::risk::Trigger;
use kairos_logic::units::{InstrumentId, Nanos, Side, Stamp};

use crate::sink::SinkError;
use crate::source::{CauseStamps, Entry, Run, Said};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// 16 bits, signed.
    Small,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Big,
    /// 64 bits, unsigned in the journal, as the same bits here: venues count trades so.
    Bits,
    /// Yes or no.
    Bool,
    /// Nanoseconds since 1970.
    Nanos,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Type,
    /// Whether it may be absent.
    pub optional: bool,
}

const fn must(name: &'static str, kind: Type) -> Column {
    Column { name, kind, optional: false }
}

const fn may(name: &'static str, kind: Type) -> Column {
    Column { name, kind, optional: true }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $variant:ident $name:literal [$($column:expr),* $(,)?],)*) => {
        /// A table. Every one begins with `run`, `seq` and `ts_ns`, the events' own time.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Table {
            $($(#[$doc])* $variant,)*
        }

        impl Table {
            /// Every table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Its columns, in order.
            #[must_use]
            pub const fn columns(self) -> &'static [Column] {
                match self {
                    $(Self::$variant => const {
                        &[
                            must("run", Type::Big),
                            must("seq", Type::Big),
                            must("ts_ns", Type::Nanos),
                            $($column,)*
                        ]
                    },)*
                }
            }
        }
    };
}

tables! {
    /// Trades between others.
    Trade "trade" [
        must("instrument", Type::Int), may("venue_ns", Type::Nanos), must("price", Type::Big),
        must("qty", Type::Big), must("side", Type::Small), must("trade_id", Type::Bits),
    ],
    /// Best bids and offers.
    Quote "quote" [
        must("instrument", Type::Int), may("venue_ns", Type::Nanos), must("bid", Type::Big),
        must("bid_qty", Type::Big), must("ask", Type::Big), must("ask_qty", Type::Big),
    ],
    /// Levels of books: the quantity that rests there now, 0 for none.
    Depth "depth" [
        must("instrument", Type::Int), may("venue_ns", Type::Nanos), must("side", Type::Small),
        must("price", Type::Big), must("qty", Type::Big), must("update_id", Type::Bits),
        must("flags", Type::Small),
    ],
    /// Holes in market data.
    Gap "gap" [
        must("instrument", Type::Int), must("reason", Type::Small), must("expected", Type::Bits),
        must("found", Type::Bits),
    ],
    /// Links of venues, and states of the engine.
    Status "status" [
        may("instrument", Type::Int), must("venue", Type::Small), must("code", Type::Small),
        must("detail", Type::Big), must("more", Type::Big),
    ],
    /// Ticks of the engine's timer.
    Timer "timer" [],
    /// What operators and satellites asked for.
    Command "command" [must("verb", Type::Small), must("argument", Type::Big)],
    /// What became of orders, but for fills. Of a sent one, `stamp_ns` is when its bytes were handed
    /// to the socket.
    OrderEvent "order_event" [
        must("instrument", Type::Int), may("venue_ns", Type::Nanos), must("order_id", Type::Bits),
        must("state", Type::Small), must("side", Type::Small), must("remaining", Type::Big),
        must("code", Type::Small), may("stamp_ns", Type::Nanos),
    ],
    /// What orders traded. Fees are units of 1e-8 of the quote currency.
    Fill "fill" [
        must("instrument", Type::Int), may("venue_ns", Type::Nanos), must("order_id", Type::Bits),
        must("side", Type::Small), must("price", Type::Big), must("qty", Type::Big),
        must("fee", Type::Big), must("maker", Type::Bool),
    ],
    /// Balances as venues report them, in units of 1e-8.
    Balance "balance" [
        must("venue", Type::Small), must("currency", Type::Int), must("total", Type::Big),
        must("available", Type::Big),
    ],
    /// Pieces of configuration that took effect.
    Config "config" [must("digest", Type::Bits)],
    /// What strategies wished and what risk said. `recv_ns` and `in_ns` are the stamps of the cause.
    Decision "decision" [
        must("instrument", Type::Int), must("cause", Type::Big), must("order_id", Type::Bits),
        must("strategy", Type::Small), must("action", Type::Small), must("side", Type::Small),
        must("order_type", Type::Small), must("tif", Type::Small), must("reduce_only", Type::Bool),
        must("post_only", Type::Bool), must("price", Type::Big), must("qty", Type::Big),
        must("approved", Type::Bool), must("code", Type::Small), must("found", Type::Big),
        must("limit_value", Type::Big), must("notional", Type::Big), must("reason", Type::Small),
        must("confidence", Type::Int), must("tag", Type::Int), must("risk_state", Type::Small),
        may("recv_ns", Type::Nanos), may("in_ns", Type::Nanos), may("strategy_ns", Type::Nanos),
        may("risk_ns", Type::Nanos),
    ],
    /// Parts of the records that a run begins with; their contents are in `run`, `instrument` and
    /// `strategy`.
    RunRecord "run_record" [
        must("kind", Type::Int), must("part", Type::Int), must("parts", Type::Int),
    ],
    /// Events that only a newer kairos understands.
    Skipped "skipped" [must("kind", Type::Int), must("schema", Type::Int)],
}

/// Most columns of a table.
pub const COLUMNS_MAX: usize = 28;

const _: () = {
    let mut at = 0;
    while at < Table::ALL.len() {
        assert!(Table::ALL[at].columns().len() <= COLUMNS_MAX);
        at += 1;
    }
};

/// A row. Its cells are in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it belongs.
    pub table: Table,
    cells: [i64; COLUMNS_MAX],
    absent: u32,
    len: usize,
}

impl Row {
    fn new(table: Table) -> Self {
        Self { table, cells: [0; COLUMNS_MAX], absent: 0, len: 0 }
    }

    /// The cells.
    pub fn cells(&self) -> impl Iterator<Item = (&'static Column, Option<i64>)> + '_ {
        self.table
            .columns()
            .iter()
            .zip(&self.cells)
            .enumerate()
            .map(|(at, (column, cell))| (column, (self.absent & (1 << at) == 0).then_some(*cell)))
    }

    fn put(mut self, cell: i64) -> Self {
        self.cells[self.len] = cell;
        self.len += 1;
        self
    }

    fn maybe(mut self, cell: Option<i64>) -> Self {
        if cell.is_none() {
            self.absent |= 1 << self.len;
        }
        self.put(cell.unwrap_or(0))
    }

    fn flag(self, cell: bool) -> Self {
        self.put(i64::from(cell))
    }

    fn bits(self, cell: u64) -> Self {
        self.put(cell.cast_signed())
    }

    /// The row of an entry.
    ///
    /// # Errors
    /// [`SinkError::Rejected`] for a time after the year 2262 or an event that says nothing.
    pub fn of(run: &Run, entry: &Entry<'_>) -> Result<Self, SinkError> {
        let made = match entry.said {
            Said::Skipped => {
                let row = Self::begin(Table::Skipped, run, entry, wall_of(run, entry.ts));
                row.map(|row| row.put(i64::from(entry.kind)).put(i64::from(entry.schema)))
            }
            Said::Record(Record::Part(part)) => {
                let row = Self::begin(Table::RunRecord, run, entry, run.started_ns.max(0));
                let small = |it: u32| i64::from(it);
                row.map(|row| {
                    row.put(i64::from(part.kind)).put(small(part.part)).put(small(part.parts))
                })
            }
            Said::Record(Record::Event(event)) => Self::event(run, entry, &event),
            Said::Record(Record::Decision { record, strategy_at, risk_at }) => {
                Self::decision(run, entry, &record, (strategy_at, risk_at))
            }
        };
        let row = made.ok_or_else(|| {
            SinkError::Rejected(format!("seq {}: a time or number that no row can hold", entry.seq))
        })?;
        debug_assert_eq!(row.len, row.table.columns().len(), "{:?}", row.table);
        Ok(row)
    }

    fn begin(table: Table, run: &Run, entry: &Entry<'_>, ts_ns: i64) -> Option<Self> {
        let (run, seq) = (i64::try_from(run.number).ok()?, i64::try_from(entry.seq).ok()?);
        Some(Self::new(table).put(run).put(seq).put(ts_ns))
    }

    fn event(run: &Run, entry: &Entry<'_>, event: &Event) -> Option<Self> {
        let at = nanos(event.at)?;
        let begin = |table| Self::begin(table, run, entry, at);
        let venue_ns = match event.venue_at {
            Nanos(0) => None,
            other => Some(nanos(other)?),
        };
        let instrument = i64::from(event.instrument.0);
        Some(match event.news() {
            News::Trade { price, qty, id, aggressor } => begin(Table::Trade)?
                .put(instrument)
                .maybe(venue_ns)
                .put(price.0)
                .put(qty.0)
                .put(side(aggressor))
                .bits(id),
            News::Quote { bid, bid_qty, ask, ask_qty } => begin(Table::Quote)?
                .put(instrument)
                .maybe(venue_ns)
                .put(bid.0)
                .put(bid_qty.0)
                .put(ask.0)
                .put(ask_qty.0),
            News::Book { side: of, price, qty, update, flags } => begin(Table::Depth)?
                .put(instrument)
                .maybe(venue_ns)
                .put(side(of))
                .put(price.0)
                .put(qty.0)
                .bits(update)
                .put(i64::from(flags.bits() & 7)),
            News::Gap { reason, expected, found } => {
                begin(Table::Gap)?.put(instrument).put(reason as i64).bits(expected).bits(found)
            }
            News::Status { venue, code, detail, more } => begin(Table::Status)?
                .maybe((event.instrument != InstrumentId::NONE).then_some(instrument))
                .put(i64::from(venue.0))
                .put(code as i64)
                .put(detail)
                .put(more),
            News::Timer => begin(Table::Timer)?,
            News::Command { verb, argument } => {
                begin(Table::Command)?.put(verb as i64).put(argument)
            }
            News::Fill { order, side: of, price, qty, fee, maker } => begin(Table::Fill)?
                .put(instrument)
                .maybe(venue_ns)
                .bits(order.0)
                .put(side(of))
                .put(price.0)
                .put(qty.0)
                .put(fee.0)
                .flag(maker),
            News::Report { order, side: of, state, remaining, code } => begin(Table::OrderEvent)?
                .put(instrument)
                .maybe(venue_ns)
                .bits(order.0)
                .put(state as i64)
                .put(side(of))
                .put(remaining.0)
                .put(code as i64)
                .maybe(run.wall(event.recv)),
            News::Balance { venue, currency, total, available } => begin(Table::Balance)?
                .put(i64::from(venue.0))
                .put(i64::from(currency.0))
                .put(total.0)
                .put(available.0),
            News::Config { digest } => begin(Table::Config)?.bits(digest),
            News::Nothing => return None,
        })
    }

    fn decision(
        run: &Run,
        entry: &Entry<'_>,
        it: &Decision,
        (strategy_at, risk_at): (Stamp, Stamp),
    ) -> Option<Self> {
        let published = |cause: CauseStamps| match cause.recv {
            Stamp(0) => Stamp(0),
            Stamp(recv) => Stamp(recv.saturating_add(u64::from(cause.in_after))),
        };
        let row = Self::begin(Table::Decision, run, entry, nanos(it.at)?)?
            .put(i64::from(it.instrument.0))
            .put(i64::try_from(it.cause.0).ok()?)
            .bits(it.order.0)
            .put(i64::from(it.strategy.0))
            .put(it.action as i64)
            .put(side(it.side))
            .put(it.order_type as i64)
            .put(it.tif as i64)
            .flag(it.flags.has(OrderFlags::REDUCE_ONLY))
            .flag(it.flags.has(OrderFlags::POST_ONLY))
            .put(it.price.0)
            .put(it.qty.0)
            .flag(it.verdict == Verdict::Approved)
            .put(it.code as i64)
            .put(it.found)
            .put(it.limit)
            .put(it.notional.0)
            .put(it.reason as i64)
            .put(i64::from(it.confidence))
            .put(i64::from(it.tag))
            .put(it.state as i64)
            .maybe(entry.cause.and_then(|cause| run.wall(cause.recv)))
            .maybe(entry.cause.and_then(|cause| run.wall(published(cause))))
            .maybe(run.wall(strategy_at))
            .maybe(run.wall(risk_at));
        Some(row)
    }
}

fn nanos(at: Nanos) -> Option<i64> {
    i64::try_from(at.0).ok()
}

fn wall_of(run: &Run, stamp: Stamp) -> i64 {
    run.wall(stamp).unwrap_or(run.started_ns).max(0)
}

/// 0 buys, 1 sells; of levels 0 is the bid.
fn side(side: Side) -> i64 {
    match side {
        Side::Buy => 0,
        Side::Sell => 1,
    }
}

/// What the numbers in the columns mean: column group, number, word.
#[must_use]
pub fn words() -> Vec<(&'static str, i16, &'static str)> {
    let mut words = vec![("side", 0, "BUY"), ("side", 1, "SELL")];
    let mut add = |group, number: u8, word| words.push((group, i16::from(number), word));
    Kind::ALL.iter().for_each(|it| add("kind", *it as u8, it.text()));
    ReportState::ALL.iter().for_each(|it| add("order_state", *it as u8, it.text()));
    Action::ALL.iter().for_each(|it| add("action", *it as u8, it.text()));
    OrderType::ALL.iter().for_each(|it| add("order_type", *it as u8, it.text()));
    TimeInForce::ALL.iter().for_each(|it| add("tif", *it as u8, it.text()));
    RiskState::ALL.iter().for_each(|it| add("risk_state", *it as u8, it.text()));
    Reason::ALL.iter().for_each(|it| add("reason", *it as u8, it.text()));
    Code::ALL.iter().for_each(|it| add("code", *it as u8, it.text()));
    let triggers = [
        Trigger::Operator,
        Trigger::Drawdown,
        Trigger::DailyLoss,
        Trigger::RejectStorm,
        Trigger::Ledger,
    ];
    triggers.iter().for_each(|it| add("trigger", *it as u8, it.text()));
    for number in 0..=u8::MAX {
        let signed = i64::from(number);
        if let Some(it) = StatusCode::from_number(signed) {
            add("status", number, it.text());
        }
        if let Some(it) = GapReason::from_number(signed) {
            add("gap_reason", number, it.text());
        }
        if let Some(it) = Verb::from_number(signed) {
            add("verb", number, it.text());
        }
    }
    words
}

/// The table of an entry, without making its row.
#[must_use]
pub fn table_of(entry: &Entry<'_>) -> Option<Table> {
    Some(match &entry.said {
        Said::Skipped => Table::Skipped,
        Said::Record(Record::Part(_)) => Table::RunRecord,
        Said::Record(Record::Decision { .. }) => Table::Decision,
        Said::Record(Record::Event(event)) => match event.news() {
            News::Trade { .. } => Table::Trade,
            News::Quote { .. } => Table::Quote,
            News::Book { .. } => Table::Depth,
            News::Gap { .. } => Table::Gap,
            News::Status { .. } => Table::Status,
            News::Timer => Table::Timer,
            News::Command { .. } => Table::Command,
            News::Fill { .. } => Table::Fill,
            News::Report { .. } => Table::OrderEvent,
            News::Balance { .. } => Table::Balance,
            News::Config { .. } => Table::Config,
            News::Nothing => return None,
        },
    })
}
