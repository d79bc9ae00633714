//! Through the public API alone: market data, risk, the paper venue and its answers, and that the
//! parts of it that a seat polls allocate nothing once they are built.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail and say why; the lints know tests by their attribute only"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use kairos_adapters::binance::instruments::parse_list;
use kairos_adapters::binance::{BinanceMarket, Options};
use kairos_adapters::capture::{FrameKind, Merge};
use kairos_adapters::net::tls::Tls;
use kairos_adapters::net::websocket::{ConnectOptions, Connection, Heard, Polled};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_adapters::sim::exchange::{Exchange, ExchangeOptions};
use kairos_adapters::sim::paper::{PaperOptions, PaperVenue};
use kairos_adapters::sim::server::{Pace, Server, ServerOptions};
use kairos_adapters::venue::listing::Fees;
use kairos_logic::code::Code;
use kairos_logic::event::{Event, News, ReportState};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{Action, Intent, OrderFlags, OrderType, Proposal, Reason, TimeInForce};
use kairos_logic::risk::{Limits, Risk, RiskOptions};
use kairos_logic::units::{
    InstrumentId, Money, Nanos, OrderId, Price, Qty, Seq, Side, Stamp, StrategyId, VenueId,
};

/// The system's allocator, counting for each thread apart: a server allocates as it likes.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // Threads that are ending have no counter any more, and nobody asks for theirs.
    let _ = ALLOCATIONS.try_with(|it| it.set(it.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged; the counter is no part of
// what it promises, and reading it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = work();
    (result, ALLOCATIONS.with(Cell::get) - before)
}

const VENUE: VenueId = VenueId(0);
const BTCUSDT: InstrumentId = InstrumentId(0);
/// One unit of a currency.
const ONE: i64 = 100_000_000;

/// The table that the seeded exchange describes; its scales fit a recorded connection as well.
fn table() -> InstrumentTable {
    let mut table = InstrumentTable::default();
    table.venues.push("binance".into());
    let body = Exchange::new(ExchangeOptions::default()).exchange_info();
    for listing in parse_list(body.as_bytes(), &[]).unwrap() {
        let instrument = listing.instrument(VENUE, Fees::default(), &mut table);
        table.instruments.push(instrument);
    }
    table
}

/// What a run came to.
#[derive(Debug, Default)]
struct Sum {
    placed: u64,
    refused_by_risk: u64,
    taken: u64,
    made: u64,
    ended: u64,
    allocations: u64,
}

/// A trader without a plan: every 2 s of the market's time it buys or sells 0.01 BTC at the market
/// and renews a bid and an ask 10 basis points away.
struct Trader {
    table: InstrumentTable,
    risk: Risk,
    venue: PaperVenue,
    next_at: Nanos,
    orders: u64,
    quotes: [Option<OrderId>; 2],
    inputs: u64,
    sum: Sum,
}

impl Trader {
    fn new() -> Self {
        let table = table();
        let usdt = table.currency("USDT").unwrap();
        let btc = table.currency("BTC").unwrap();
        let balances = vec![(VENUE, usdt, Money(1_000_000 * ONE)), (VENUE, btc, Money(10 * ONE))];
        let options = RiskOptions { currency: usdt, balances: balances.clone(), depth: 4_096 };
        let paper = PaperOptions { balances, ..PaperOptions::default() };
        Self {
            risk: Risk::new(&table, Limits::default(), &options),
            venue: PaperVenue::new(&table, paper),
            table,
            next_at: Nanos(0),
            orders: 0,
            quotes: [None; 2],
            inputs: 0,
            sum: Sum::default(),
        }
    }

    /// One event of the market, and everything that follows from it.
    fn on_event(&mut self, event: &Event) {
        let mut reports = Vec::with_capacity(64);
        let advance = || self.venue.advance(event.at, &mut |report| reports.push(report));
        let ((), count) = allocations(advance);
        self.sum.allocations += count;
        for report in &reports {
            self.on_report(report);
        }
        self.learn(event);
        let ((), count) = allocations(|| self.venue.on_event(event));
        self.sum.allocations += count;
        if let News::Quote { bid, ask, .. } = event.news()
            && event.instrument == BTCUSDT
            && event.at >= self.next_at
        {
            self.next_at = event.at.plus(2_000_000_000);
            self.act(event.at, bid, ask);
        }
    }

    fn learn(&mut self, event: &Event) {
        self.inputs += 1;
        self.risk.on_event(Seq(self.inputs), event, &mut |_| {});
    }

    fn act(&mut self, now: Nanos, bid: Price, ask: Price) {
        for place in [0, 1] {
            if let Some(order) = self.quotes[place].take() {
                let side = [Side::Buy, Side::Sell][place];
                let cancel = self.intent(Action::Cancel, side, OrderType::Limit, Price(0), Qty(0));
                self.send(now, Intent { order, ..cancel });
            }
        }
        let instrument = self.table.instrument(BTCUSDT).unwrap();
        let (tick, lot) = (instrument.tick.0, ONE / 100);
        let round = |price: i64| Price(price / tick * tick);
        let side = if self.orders.is_multiple_of(2) { Side::Buy } else { Side::Sell };
        let market = self.intent(Action::Place, side, OrderType::Market, Price(0), Qty(lot));
        self.send(now, Intent { tif: TimeInForce::Ioc, ..market });
        for (place, side, price) in [
            (0, Side::Buy, round(bid.0 - bid.0 / 1_000)),
            (1, Side::Sell, round(ask.0 + ask.0 / 1_000)),
        ] {
            let quote = self.intent(Action::Place, side, OrderType::Limit, price, Qty(lot));
            let flags = OrderFlags::POST_ONLY;
            self.quotes[place] = self.send(now, Intent { flags, ..quote }).then_some(quote.order);
        }
    }

    fn intent(
        &mut self,
        action: Action,
        side: Side,
        order_type: OrderType,
        price: Price,
        qty: Qty,
    ) -> Intent {
        if action == Action::Place {
            self.orders += 1;
        }
        Intent {
            order: OrderId::new(1, self.orders),
            price,
            qty,
            instrument: BTCUSDT,
            strategy: StrategyId(0),
            action,
            side,
            order_type,
            tif: TimeInForce::Gtc,
            flags: OrderFlags::NONE,
            reason: Reason::Entry,
            confidence: 0,
            tag: 0,
        }
    }

    /// Through risk and on to the venue; whether it left.
    fn send(&mut self, now: Nanos, intent: Intent) -> bool {
        let proposal = Proposal { cause: Seq(self.inputs), intent, strategy_at: Stamp(0) };
        let outcome = self.risk.judge(&proposal);
        let Some(approved) = outcome.approved() else {
            // A cancel of a quote that has traded meanwhile is refused, rightly.
            self.sum.refused_by_risk += u64::from(intent.action == Action::Place);
            return false;
        };
        let (refused, count) = allocations(|| self.venue.submit(now, approved));
        assert_eq!(refused, None);
        self.sum.allocations += count;
        self.sum.placed += u64::from(intent.action == Action::Place);
        true
    }

    fn on_report(&mut self, report: &Event) {
        self.learn(report);
        match report.news() {
            News::Fill { maker, .. } => {
                self.sum.made += u64::from(maker);
                self.sum.taken += u64::from(!maker);
            }
            News::Report { state: ReportState::Cancelled | ReportState::Rejected, .. } => {
                self.sum.ended += 1;
            }
            _ => {}
        }
    }

    fn end(mut self) -> Sum {
        let mut reports = Vec::with_capacity(64);
        let end = self.next_at;
        self.venue.cancel_all(end, Code::ShutdownCancel, &mut |report| reports.push(report));
        for report in &reports {
            self.on_report(report);
        }
        assert!(self.venue.is_idle());
        assert_eq!((self.risk.counts().faults, self.risk.counts().late_fills), (0, 0));
        self.sum
    }
}

/// A minute of the seeded exchange.
fn seeded() -> Sum {
    let mut trader = Trader::new();
    let ids: Vec<InstrumentId> = trader.table.iter().map(|(id, _)| id).collect();
    let options = Options::default();
    let mut session = BinanceMarket::new(&trader.table, VENUE, &ids, options).unwrap();
    let (mut exchange, mut out) = (Exchange::new(ExchangeOptions::default()), Outbox::new());
    let epoch_ns = ExchangeOptions::default().epoch_ms * 1_000_000;
    session.on_open(Nanos(epoch_ns), &mut out, &mut |event| trader.on_event(&event));
    for number in 1.. {
        let frame = exchange.next().unwrap();
        if frame.due_ns > 60_000_000_000 {
            break;
        }
        let arrival = Arrival { at: Nanos(epoch_ns + frame.due_ns), recv: Stamp(0), number };
        let text = frame.text.as_bytes();
        session.on_frame(arrival, text, &mut out, &mut |event| trader.on_event(&event));
        let wanted = out.snapshots().to_vec();
        out.clear();
        for request in wanted {
            let symbol = &trader.table.instrument(request.instrument).unwrap().symbol;
            let body = exchange.snapshot(symbol, 1_000).unwrap();
            let id = Some(request.instrument);
            session.on_snapshot(arrival, id, body.as_bytes(), &mut out, &mut |event| {
                trader.on_event(&event);
            });
        }
    }
    trader.end()
}

/// 346 s of the real market; `None`, with a message, where the capture is absent.
fn recorded() -> Option<Sum> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let folder = env::var_os("KAIROS_CAPTURES").unwrap_or_else(|| "../shared/captures".into());
    let path = root.join(folder).join("binance/btcusdt_20240808.frames.gz");
    if !path.is_file() {
        println!("skipped: no capture at {}", path.display());
        return None;
    }
    let mut trader = Trader::new();
    let options = Options::default();
    let mut session = BinanceMarket::new(&trader.table, VENUE, &[BTCUSDT], options).unwrap();
    let (mut merge, mut out) = (Merge::open([path]).unwrap(), Outbox::new());
    while let Some(line) = merge.next().unwrap() {
        let arrival = Arrival { at: line.recv, recv: Stamp(0), number: line.line };
        let publish = &mut |event: Event| trader.on_event(&event);
        match line.kind {
            FrameKind::Text => session.on_frame(arrival, line.bytes, &mut out, publish),
            FrameKind::Rest { .. } => {
                session.on_snapshot(arrival, Some(BTCUSDT), line.bytes, &mut out, publish);
            }
        }
        out.clear();
    }
    Some(trader.end())
}

/// `refused`: orders from before the snapshot, when the book is not known yet.
fn check(sum: &Sum, placed_min: u64, refused: u64) {
    assert!(placed_min <= sum.placed, "{sum:?}");
    assert_eq!(sum.refused_by_risk, refused, "{sum:?}");
    // Every third order takes and fills at once; of the quotes, some are reached.
    assert!(sum.taken >= sum.placed / 3, "{sum:?}");
    assert!(sum.made > 0, "{sum:?}");
    assert!(sum.ended > 0, "{sum:?}");
    assert_eq!(sum.allocations, 0, "{sum:?}");
}

#[test]
fn a_trader_gets_fills_from_the_seeded_exchange_and_nothing_is_allocated() {
    check(&seeded(), 80, 0);
}

#[test]
fn a_trader_gets_fills_from_the_recorded_market_and_nothing_is_allocated() {
    if let Some(sum) = recorded() {
        check(&sum, 500, 3);
    }
}

#[test]
fn polling_a_websocket_allocates_nothing_per_message() {
    let count = 20_000;
    let server = Server::start(ServerOptions {
        pace: Pace::Max,
        frames_max: Some(count),
        ..ServerOptions::default()
    })
    .unwrap();
    let streams = ["btcusdt@bookTicker", "ethusdt@trade", "ethbtc@depth@100ms"];
    let wanted = Exchange::new(ExchangeOptions::default()).take(20_000);
    let wanted = wanted.filter(|frame| streams.contains(&frame.stream)).count();
    let url = server.stream_url(&streams);
    let mut connection =
        Connection::connect(&url, ConnectOptions::default(), &Tls::new(None).unwrap()).unwrap();
    let (mut texts, mut total, start) = (0, 0, Instant::now());
    while texts < wanted {
        assert!(start.elapsed() < Duration::from_secs(60), "{texts} of {wanted}");
        let mut bytes = 0;
        let (polled, count) = allocations(|| {
            connection.poll(&mut |heard| {
                if let Heard::Text(text) = heard {
                    bytes += text.len();
                }
            })
        });
        match polled.unwrap() {
            Polled::Busy(some) => texts += some,
            Polled::Idle => connection.wait(Duration::from_millis(100)).unwrap(),
        }
        total += count;
    }
    assert!(total * 100 < wanted as u64, "{total} allocations in {wanted} messages");
    println!("{total} allocations in {wanted} messages");
}
