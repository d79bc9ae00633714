//! What is known of the markets: books, last quotes, last trades, links, and conversion of money.
//!
//! Strategies and risk each own a [`Market`] and feed it the same events in the same order, so
//! they never see different prices for one cause.

use alloc::vec;
use alloc::vec::Vec;

use crate::book::{Book, Level};
use crate::event::{Event, GapReason, News, StatusCode};
use crate::instrument::InstrumentTable;
use crate::units::{
    CurrencyId, InstrumentId, Money, Nanos, POW10, Price, Qty, Side, VenueId, div_round,
};

/// Best bid and offer of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Best bid.
    pub bid: Price,
    /// Size there.
    pub bid_qty: Qty,
    /// Best ask, above the bid.
    pub ask: Price,
    /// Size there.
    pub ask_qty: Qty,
    /// Logic's time when this was learnt.
    pub at: Nanos,
}

impl Touch {
    /// The price halfway, rounded to the nearest unit, halves away from zero.
    #[must_use]
    pub fn mid(&self) -> Price {
        let sum = i128::from(self.bid.0) + i128::from(self.ask.0);
        // Half of the sum of two i64 is one again.
        Price(i64::try_from(div_round(sum, 2)).unwrap_or(self.bid.0))
    }

    /// Price and size that an order of this side would take.
    #[must_use]
    pub const fn taken_by(&self, side: Side) -> (Price, Qty) {
        match side {
            Side::Buy => (self.ask, self.ask_qty),
            Side::Sell => (self.bid, self.bid_qty),
        }
    }
}

/// A trade between others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastTrade {
    /// What was paid.
    pub price: Price,
    /// How much.
    pub qty: Qty,
    /// Who crossed the spread.
    pub aggressor: Side,
    /// Logic's time when it was learnt.
    pub at: Nanos,
}

/// Everything known about one instrument.
#[derive(Clone, Debug)]
struct Known {
    venue: VenueId,
    book: Book,
    /// Whether the feed has ever spoken of a book. Where it never does, quotes must do.
    has_book: bool,
    book_top: Option<(u64, Touch)>,
    quote: Option<(u64, Touch)>,
    trade: Option<LastTrade>,
    /// When the feed last spoke of what can be traded.
    priced_at: Nanos,
}

/// What is known of all markets of one run.
#[derive(Clone, Debug)]
pub struct Market {
    now: Nanos,
    /// Events seen: tells the newer of two facts where times are equal.
    seen: u64,
    known: Vec<Known>,
    links: Vec<bool>,
    routes: Routes,
    crossed: u64,
    last_broken: Option<(InstrumentId, GapReason)>,
}

impl Market {
    /// Nothing known yet. Each book gets room for `depth` levels a side; see [`Book::new`].
    #[must_use]
    pub fn new(table: &InstrumentTable, depth: usize) -> Self {
        let known = |(_, instrument): (_, &crate::instrument::Instrument)| Known {
            venue: instrument.venue,
            book: Book::new(depth),
            has_book: false,
            book_top: None,
            quote: None,
            trade: None,
            priced_at: Nanos(0),
        };
        Self {
            now: Nanos(0),
            seen: 0,
            known: table.iter().map(known).collect(),
            links: vec![true; table.venues.len()],
            routes: Routes::new(table),
            crossed: 0,
            last_broken: None,
        }
    }

    /// Learns from one event. To be called for every event, before anyone asks.
    pub fn on_event(&mut self, event: &Event) {
        self.on_news(event, &event.news());
    }

    /// As [`Self::on_event`], of an event that the caller has read.
    pub(crate) fn on_news(&mut self, event: &Event, news: &News) {
        self.now = self.now.max(event.at);
        self.seen += 1;
        let (now, seen) = (self.now, self.seen);
        let known = self.known.get_mut(event.instrument.index());
        match (*news, known) {
            (News::Trade { price, qty, aggressor, .. }, Some(known)) => {
                known.trade = Some(LastTrade { price, qty, aggressor, at: now });
            }
            (News::Quote { bid, bid_qty, ask, ask_qty }, Some(known)) => {
                if !known.has_book {
                    known.priced_at = now;
                }
                let bid = Level { price: bid, qty: bid_qty };
                let ask = Level { price: ask, qty: ask_qty };
                known.quote = touch(Some(bid), Some(ask), now).map(|it| (seen, it));
            }
            (News::Book { side, price, qty, flags, .. }, Some(known)) => {
                known.priced_at = now;
                known.has_book = true;
                if let Err(why) = known.book.apply(side, price, qty, flags) {
                    self.crossed += 1;
                    self.last_broken = Some((event.instrument, why));
                }
                if !known.book.is_partial() {
                    let (bid, ask) = (known.book.best(Side::Buy), known.book.best(Side::Sell));
                    known.book_top = touch(bid, ask, now).map(|it| (seen, it));
                } else if !known.book.is_valid() {
                    known.book_top = None;
                }
            }
            (News::Gap { reason, .. }, Some(known)) => {
                known.has_book = true;
                known.book.invalidate();
                known.book_top = None;
                if reason == GapReason::Disconnected {
                    known.quote = None; // the connection that kept it current is gone
                }
            }
            (News::Status { venue, code, .. }, known) => {
                if let (StatusCode::Resync, Some(known)) = (code, known) {
                    known.has_book = true;
                }
                self.on_status(venue, code);
            }
            (
                News::Trade { .. }
                | News::Quote { .. }
                | News::Book { .. }
                | News::Gap { .. }
                | News::Timer
                | News::Command { .. }
                | News::Fill { .. }
                | News::Report { .. }
                | News::Balance { .. }
                | News::Config { .. }
                | News::Nothing,
                _,
            ) => {}
        }
    }

    fn on_status(&mut self, venue: VenueId, code: StatusCode) {
        let up = match code {
            StatusCode::Connected => true,
            StatusCode::Disconnected => false,
            StatusCode::Resync
            | StatusCode::Malformed
            | StatusCode::Dropped
            | StatusCode::EndOfCapture
            | StatusCode::LinkUp
            | StatusCode::LinkDown
            | StatusCode::LinkRefused
            | StatusCode::LinkReplaced
            | StatusCode::RateLimited
            | StatusCode::Banned
            | StatusCode::FetchFailed
            | StatusCode::Said
            | StatusCode::VenueError
            | StatusCode::Listed
            | StatusCode::LinkFrames
            | StatusCode::LinkBytes
            | StatusCode::LinkEvents
            | StatusCode::LinkMalformed
            | StatusCode::LinkGaps
            | StatusCode::LinkResyncs
            | StatusCode::LinkReconnects
            | StatusCode::LinkAge
            | StatusCode::RiskRunning
            | StatusCode::RiskCooldown
            | StatusCode::RiskHalted
            | StatusCode::RiskReducing
            | StatusCode::RiskStopped => return,
        };
        if let Some(link) = self.links.get_mut(usize::from(venue.0)) {
            *link = up;
        }
        if up {
            return;
        }
        for known in self.known.iter_mut().filter(|it| it.venue == venue) {
            known.book.invalidate();
            known.book_top = None;
            known.quote = None;
        }
    }

    /// Logic's time: the latest `at` of any event so far. Never steps back.
    #[must_use]
    pub const fn now(&self) -> Nanos {
        self.now
    }

    /// The book of an instrument; `None` for an id of another table.
    #[must_use]
    pub fn book(&self, id: InstrumentId) -> Option<&Book> {
        self.known(id).map(|it| &it.book)
    }

    /// The newer of the last quote and the valid book's top; `None` where neither has two sides.
    #[must_use]
    pub fn touch(&self, id: InstrumentId) -> Option<Touch> {
        let known = self.known(id)?;
        match (known.book_top, known.quote) {
            (Some((book_seen, book)), Some((quote_seen, quote))) => {
                Some(if quote_seen > book_seen { quote } else { book })
            }
            (Some((_, touch)), None) | (None, Some((_, touch))) => Some(touch),
            (None, None) => None,
        }
    }

    /// The price halfway between best bid and offer; see [`Touch::mid`].
    #[must_use]
    pub fn mid(&self, id: InstrumentId) -> Option<Price> {
        self.touch(id).map(|it| it.mid())
    }

    /// The last trade, if there was one.
    #[must_use]
    pub fn last_trade(&self, id: InstrumentId) -> Option<LastTrade> {
        self.known(id)?.trade
    }

    /// Logic's time of the last book level, or of the last quote where the feed never spoke of a
    /// book; 0 before the first. Trades do not count, and beside a book quotes do not: they would
    /// keep a book fresh that nobody keeps up any more.
    #[must_use]
    pub fn priced_at(&self, id: InstrumentId) -> Nanos {
        self.known(id).map_or(Nanos(0), |it| it.priced_at)
    }

    /// Whether orders may rely on what is known of the instrument: its venue's link is up and its
    /// book is valid; or, where the feed never spoke of a book, it has a quote.
    #[must_use]
    pub fn is_valid(&self, id: InstrumentId) -> bool {
        self.known(id).is_some_and(|it| {
            let known = if it.has_book { it.book.is_valid() } else { it.quote.is_some() };
            known && self.is_connected(it.venue)
        })
    }

    /// Whether the venue's link is up. A link is up until an event says that it is down.
    #[must_use]
    pub fn is_connected(&self, venue: VenueId) -> bool {
        self.links.get(usize::from(venue.0)).copied().unwrap_or(false)
    }

    /// The book that last became invalid by its own content, and why: the feed must rebuild it.
    #[must_use]
    pub const fn last_broken(&self) -> Option<(InstrumentId, GapReason)> {
        self.last_broken
    }

    /// Books that became invalid by their own content (crossed, too shallow) since the start.
    #[must_use]
    pub const fn broken_books(&self) -> u64 {
        self.crossed
    }

    /// `amount` of `from`, expressed in `to`, at the mids of configured instruments.
    ///
    /// Ways are fixed at construction and tried in this order until one has all its mids: an
    /// instrument `from/to`, one `to/from`, then two instruments over one intermediate currency;
    /// among equals the lowest instrument ids first. Each step rounds to the nearest unit, halves
    /// away from zero. `None` where no way has prices, or the result does not fit.
    #[must_use]
    pub fn convert(&self, amount: Money, from: CurrencyId, to: CurrencyId) -> Option<Money> {
        if from == to {
            return Some(amount);
        }
        self.routes.between(from, to).iter().find_map(|route| self.along(amount, *route))
    }

    /// What one whole unit of `currency` is worth in `to`; see [`Market::convert`].
    #[must_use]
    pub fn price_of(&self, currency: CurrencyId, to: CurrencyId) -> Option<Money> {
        self.convert(Money(POW10[8]), currency, to)
    }

    fn along(&self, amount: Money, route: Route) -> Option<Money> {
        let first = self.step(amount, route.first)?;
        match route.second {
            Some(hop) => self.step(first, hop),
            None => Some(first),
        }
    }

    fn step(&self, amount: Money, hop: Hop) -> Option<Money> {
        let mid = self.mid(hop.instrument)?;
        if mid.0 <= 0 {
            return None;
        }
        let (amount, mid) = (i128::from(amount.0), i128::from(mid.0));
        let one = i128::from(hop.one);
        // At most 2^63 x 2^63 on top, far inside 128 bits.
        let result = match hop.way {
            Way::Sell => div_round(amount * mid, one),
            Way::Buy => div_round(amount * one, mid),
        };
        i64::try_from(result).ok().map(Money)
    }

    fn known(&self, id: InstrumentId) -> Option<&Known> {
        self.known.get(id.index())
    }
}

fn touch(bid: Option<Level>, ask: Option<Level>, at: Nanos) -> Option<Touch> {
    let (bid, ask) = (bid?, ask?);
    // A feed promises both; a quote that breaks the promise is no price.
    (bid.qty.0 > 0 && ask.qty.0 > 0 && bid.price < ask.price).then_some(Touch {
        bid: bid.price,
        bid_qty: bid.qty,
        ask: ask.price,
        ask_qty: ask.qty,
        at,
    })
}

/// Most ways kept for one pair of currencies; further ones are no better, only later.
const ROUTES_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From base to quote: multiply.
    Sell,
    /// From quote to base: divide.
    Buy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hop {
    instrument: InstrumentId,
    way: Way,
    /// `10^price_scale`: the price of one.
    one: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    first: Hop,
    second: Option<Hop>,
}

/// The ways between currencies, sorted by pair.
#[derive(Clone, Debug, Default)]
struct Routes {
    pairs: Vec<(CurrencyId, CurrencyId, usize)>,
    routes: Vec<Route>,
}

impl Routes {
    fn new(table: &InstrumentTable) -> Self {
        let mut hops: Vec<(CurrencyId, CurrencyId, Hop)> = Vec::new();
        for (id, it) in table.iter().filter(|(_, it)| it.base != it.quote) {
            let hop = |way| Hop {
                instrument: id,
                way,
                one: POW10.get(usize::from(it.price_scale)).copied().unwrap_or(1),
            };
            hops.push((it.base, it.quote, hop(Way::Sell)));
            hops.push((it.quote, it.base, hop(Way::Buy)));
        }
        // Direct before inverse, then by id: the order in which ways are tried.
        hops.sort_by_key(|(from, to, hop)| (*from, *to, hop.way == Way::Buy, hop.instrument));
        let mut found: Vec<(CurrencyId, CurrencyId, Route)> = Vec::new();
        for &(from, to, first) in &hops {
            found.push((from, to, Route { first, second: None }));
            let start = hops.partition_point(|(it, ..)| *it < to);
            let onward = hops[start..].iter().take_while(|(it, ..)| *it == to);
            for &(_, end, second) in onward.filter(|(_, end, _)| *end != from) {
                let second = Some(second);
                found.push((from, end, Route { first, second }));
            }
        }
        // Stable: single steps stay in their order, double steps are ordered by their ids.
        found.sort_by_key(|(from, to, route)| {
            let ids = route.second.map(|it| (route.first.instrument, it.instrument));
            (*from, *to, ids)
        });
        let mut ways = Self::default();
        for pair in found.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            ways.pairs.push((pair[0].0, pair[0].1, ways.routes.len()));
            let kept = pair.iter().take(ROUTES_MAX).map(|(.., route)| *route);
            ways.routes.extend(kept);
        }
        ways
    }

    fn between(&self, from: CurrencyId, to: CurrencyId) -> &[Route] {
        let key = |pair: &(CurrencyId, CurrencyId, usize)| (pair.0, pair.1);
        let Ok(place) = self.pairs.binary_search_by_key(&(from, to), key) else {
            return &[];
        };
        let start = self.pairs.get(place).map_or(0, |it| it.2);
        let end = self.pairs.get(place + 1).map_or(self.routes.len(), |it| it.2);
        self.routes.get(start..end).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Flags, Verb};
    use crate::strategy::testing::{BTC, ETH, USDT, VENUE, money, table};

    const BTCUSDT: InstrumentId = InstrumentId(0);
    const ETHUSDT: InstrumentId = InstrumentId(1);
    const ETHBTC: InstrumentId = InstrumentId(2);
    const NONE: Nanos = Nanos(0);

    fn market() -> Market {
        Market::new(&table(), 64)
    }

    fn quote(at: u64, id: InstrumentId, bid: i64, ask: i64) -> Event {
        Event::quote(Nanos(at), NONE, id, (Price(bid), Qty(5)), (Price(ask), Qty(6)))
    }

    fn level(at: u64, side: Side, price: i64, flags: Flags) -> Event {
        Event::book(Nanos(at), NONE, BTCUSDT, side, Price(price), Qty(7), 1, flags)
    }

    fn snapshot(market: &mut Market, at: u64, bid: i64, ask: i64) {
        market.on_event(&level(at, Side::Buy, bid, Flags::CLEAR));
        market.on_event(&level(at, Side::Sell, ask, Flags::LAST));
    }

    fn status(code: StatusCode) -> Event {
        Event::status(Nanos(0), InstrumentId::NONE, VENUE, code, 0)
    }

    fn bid_ask(market: &Market) -> Option<(i64, i64)> {
        market.touch(BTCUSDT).map(|it| (it.bid.0, it.ask.0))
    }

    #[test]
    fn the_touch_is_the_newer_of_quote_and_book() {
        let mut market = market();
        assert_eq!(bid_ask(&market), None);
        market.on_event(&quote(10, BTCUSDT, 100, 102));
        assert_eq!(bid_ask(&market), Some((100, 102)));
        market.on_event(&level(20, Side::Buy, 101, Flags::CLEAR));
        assert_eq!(bid_ask(&market), Some((100, 102)), "the snapshot is not complete");
        market.on_event(&level(20, Side::Sell, 103, Flags::LAST));
        assert_eq!(bid_ask(&market), Some((101, 103)));
        // The same time, but later on the way in: order decides, not the clock.
        market.on_event(&quote(20, BTCUSDT, 100, 104));
        assert_eq!(bid_ask(&market), Some((100, 104)));
        // A change whose LAST has not come is not shown.
        market.on_event(&level(30, Side::Buy, 102, Flags::NONE));
        assert_eq!(bid_ask(&market), Some((100, 104)));
        market.on_event(&level(30, Side::Sell, 105, Flags::LAST));
        assert_eq!(bid_ask(&market), Some((102, 103)));
        assert_eq!(market.touch(BTCUSDT).unwrap().at, Nanos(30));
        market.on_event(&Event::gap(Nanos(31), BTCUSDT, GapReason::Sequence, 1, 2));
        assert_eq!(bid_ask(&market), Some((100, 104)), "the quote is no part of the gap");
        // One side is no touch.
        let empty = (Price(0), Qty(0));
        let one_sided = Event::quote(Nanos(40), NONE, BTCUSDT, empty, (Price(9), Qty(1)));
        market.on_event(&one_sided);
        assert_eq!(bid_ask(&market), None);
    }

    #[test]
    fn time_never_steps_back() {
        let mut market = market();
        market.on_event(&Event::timer(Nanos(50)));
        market.on_event(&quote(40, BTCUSDT, 100, 102));
        assert_eq!(market.now(), Nanos(50));
        assert_eq!(market.priced_at(BTCUSDT), Nanos(50));
        assert_eq!(market.priced_at(ETHUSDT), Nanos(0));
        market.on_event(&Event::command(Nanos(60), Verb::Halt, 0));
        assert_eq!((market.now(), market.priced_at(BTCUSDT)), (Nanos(60), Nanos(50)));
    }

    #[test]
    fn nothing_but_the_book_keeps_a_book_fresh() {
        let mut market = market();
        let trade = |at| Event::trade(Nanos(at), NONE, BTCUSDT, Price(101), Qty(1), at, Side::Buy);
        market.on_event(&trade(10));
        assert_eq!(market.priced_at(BTCUSDT), Nanos(0), "what was paid is no offer");
        market.on_event(&quote(20, BTCUSDT, 100, 102));
        assert_eq!(market.priced_at(BTCUSDT), Nanos(20), "no book was ever promised");
        snapshot(&mut market, 30, 100, 102);
        market.on_event(&trade(40));
        market.on_event(&quote(50, BTCUSDT, 100, 102));
        assert_eq!(market.priced_at(BTCUSDT), Nanos(30));
        market.on_event(&level(60, Side::Buy, 101, Flags::LAST));
        assert_eq!(market.priced_at(BTCUSDT), Nanos(60));
    }

    #[test]
    fn a_market_is_valid_while_link_and_book_are() {
        let mut market = market();
        assert!(!market.is_valid(BTCUSDT));
        market.on_event(&quote(1, BTCUSDT, 100, 102));
        assert!(market.is_valid(BTCUSDT), "no book was ever promised");
        market.on_event(&level(2, Side::Buy, 100, Flags::CLEAR));
        assert!(!market.is_valid(BTCUSDT), "now one is");
        market.on_event(&level(2, Side::Sell, 102, Flags::LAST));
        assert!(market.is_valid(BTCUSDT));
        market.on_event(&Event::gap(Nanos(3), BTCUSDT, GapReason::Malformed, 0, 0));
        assert!(!market.is_valid(BTCUSDT));
        snapshot(&mut market, 4, 100, 102);
        assert!(market.is_valid(BTCUSDT));
        market.on_event(&status(StatusCode::Disconnected));
        assert!(!market.is_valid(BTCUSDT) && market.touch(BTCUSDT).is_none());
        market.on_event(&status(StatusCode::Connected));
        assert!(!market.is_valid(BTCUSDT), "nothing is known yet");
        snapshot(&mut market, 5, 100, 102);
        assert!(market.is_valid(BTCUSDT));
        // A book that crosses breaks, is counted and named.
        market.on_event(&level(6, Side::Buy, 102, Flags::LAST));
        assert!(!market.is_valid(BTCUSDT));
        assert_eq!(market.broken_books(), 1);
        assert_eq!(market.last_broken(), Some((BTCUSDT, GapReason::Crossed)));
        assert!(!market.is_valid(InstrumentId::NONE));
    }

    #[test]
    fn the_middle_rounds_halves_away_from_zero() {
        let mut market = market();
        for (bid, ask, mid) in [(100, 102, 101), (100, 101, 101), (1, 2, 2), (-2, -1, -2)] {
            market.on_event(&quote(1, BTCUSDT, bid, ask));
            assert_eq!(market.mid(BTCUSDT), Some(Price(mid)), "{bid}/{ask}");
        }
    }

    #[test]
    fn money_converts_directly_inversely_or_over_one_currency() {
        let mut market = market();
        assert_eq!(market.convert(money(7), USDT, USDT), Some(money(7)));
        assert_eq!(market.convert(money(1), BTC, USDT), None, "no price yet");
        // ETH/USDT 2 500.00, ETH/BTC 0.05: BTC to USDT is known over ETH only.
        market.on_event(&quote(1, ETHUSDT, 249_999, 250_001));
        market.on_event(&quote(1, ETHBTC, 49_999, 50_001));
        assert_eq!(market.convert(money(2), ETH, USDT), Some(money(5_000)));
        assert_eq!(market.convert(money(5_000), USDT, ETH), Some(money(2)));
        assert_eq!(market.convert(money(1), BTC, USDT), Some(money(50_000)));
        assert_eq!(market.convert(Money(-3), USDT, ETH), Some(Money(0)), "-0.0012 units");
        // With its own instrument the direct way is taken.
        market.on_event(&quote(1, BTCUSDT, 5_999_999, 6_000_001));
        assert_eq!(market.convert(money(1), BTC, USDT), Some(money(60_000)));
        assert_eq!(market.price_of(BTC, USDT), Some(money(60_000)));
        assert_eq!(market.convert(Money(i64::MAX), BTC, USDT), None, "does not fit");
        // Half a unit goes away from zero.
        market.on_event(&quote(1, ETHUSDT, 49, 51));
        assert_eq!(market.convert(Money(1), ETH, USDT), Some(Money(1)));
        assert_eq!(market.convert(Money(-1), ETH, USDT), Some(Money(-1)));
    }
}
