//! Which fields events and decisions have.

use kairos_logic::code::Code;
use kairos_logic::event::{Event, Flags, News, ReportState, StatusCode};
use kairos_logic::order::{Action, Decision, OrderFlags, OrderType, Verdict};
use kairos_logic::risk::Trigger;
use kairos_logic::units::{
    CurrencyId, Decimal, InstrumentId, MONEY_SCALE, Money, Price, Qty, Side, Stamp, StrategyId,
    VenueId,
};

use super::{Cell, Known, Renderer};

type Put<'a> = dyn FnMut(&'static str, Cell<'_>) + 'a;

/// Scales where the instrument is not in the table: the numbers are shown as counts.
const UNKNOWN: (u8, u8) = (0, 0);

impl Renderer {
    pub(super) fn event(&self, event: &Event, put: &mut Put<'_>) {
        let news = event.news();
        put("kind", Cell::Text(event.kind.text()));
        let instrument = self.instruments.get(event.instrument.index());
        let venue = match news {
            News::Status { venue, .. } | News::Balance { venue, .. } => Some(venue),
            News::Trade { .. }
            | News::Quote { .. }
            | News::Book { .. }
            | News::Gap { .. }
            | News::Timer
            | News::Command { .. }
            | News::Fill { .. }
            | News::Report { .. }
            | News::Config { .. }
            | News::Nothing => None,
        };
        self.place(event.instrument, instrument, venue, put);
        put("at", Cell::Count(event.at.0));
        if event.venue_at.0 != 0 {
            put("venue_at", Cell::Count(event.venue_at.0));
        }
        let scales = instrument.map_or(UNKNOWN, |it| (it.price_scale, it.qty_scale));
        self.news(event, &news, scales, put);
        self.event_stamps(event, &news, put);
    }

    /// The stamp of a sent order is when its bytes were handed to the socket.
    fn event_stamps(&self, event: &Event, news: &News, put: &mut Put<'_>) {
        let sent = matches!(news, News::Report { state: ReportState::Sent, .. });
        let first = if sent { "sent" } else { "recv" };
        let inside = match event.recv.0 {
            0 => Stamp(0),
            recv => Stamp(recv.saturating_add(u64::from(event.in_after))),
        };
        self.stamps(&[(first, event.recv), ("in", inside)], put);
    }

    fn place(
        &self,
        id: InstrumentId,
        known: Option<&Known>,
        venue: Option<VenueId>,
        put: &mut Put<'_>,
    ) {
        let own = known.map(|it| it.venue.as_str());
        let named = venue.and_then(|id| self.venues.get(usize::from(id.0)));
        if let Some(venue) = own.or(named.map(String::as_str)) {
            put("venue", Cell::Text(venue));
        }
        match known {
            Some(known) => put("instrument", Cell::Text(&known.symbol)),
            None if id == InstrumentId::NONE => {}
            None => put("instrument", Cell::Text(&format!("#{}", id.0))),
        }
    }

    fn news(&self, event: &Event, news: &News, scales: (u8, u8), put: &mut Put<'_>) {
        match *news {
            News::Trade { price: at, qty: size, id, aggressor } => {
                put("id", Cell::Count(id));
                put("price", price(at, scales));
                put("qty", qty(size, scales));
                put("side", Cell::Text(order_side(aggressor)));
            }
            News::Quote { bid, bid_qty, ask, ask_qty } => {
                // A side without orders is absent.
                if bid_qty.0 != 0 {
                    put("bid", price(bid, scales));
                    put("bid_qty", qty(bid_qty, scales));
                }
                if ask_qty.0 != 0 {
                    put("ask", price(ask, scales));
                    put("ask_qty", qty(ask_qty, scales));
                }
            }
            News::Book { side, price: at, qty: size, update, flags } => {
                put("side", Cell::Text(book_side(side)));
                put("price", price(at, scales));
                put("qty", qty(size, scales));
                put("update", Cell::Count(update));
                book_flags(flags, put);
            }
            News::Gap { reason, expected, found } => {
                put("reason", Cell::Text(reason.text()));
                put("expected", Cell::Count(expected));
                put("found", Cell::Count(found));
            }
            News::Status { code, detail, more, .. } => status(code, detail, more, put),
            News::Command { verb, argument } => {
                put("verb", Cell::Text(verb.text()));
                put("argument", Cell::Signed(argument));
            }
            News::Fill { .. } | News::Report { .. } => report(news, scales, put),
            News::Balance { currency, total, available, .. } => {
                put("currency", Cell::Text(self.currency(currency)));
                put("total", money(total));
                put("available", money(available));
            }
            News::Config { digest } => put("digest", Cell::Hex(digest)),
            News::Timer => {}
            // A kind with contents of no version: the event's own words, so nothing is hidden.
            News::Nothing => put("flags", Cell::Text(&format!("{:?}", event.body))),
        }
    }

    pub(super) fn decision(&self, it: &Decision, put: &mut Put<'_>) {
        put("kind", Cell::Text("decision"));
        let instrument = self.instruments.get(it.instrument.index());
        self.place(it.instrument, instrument, None, put);
        put("at", Cell::Count(it.at.0));
        if it.order.0 != 0 {
            put("order_id", Cell::Order(it.order));
        }
        let number;
        let strategy = match self.strategies.get(it.strategy.index()) {
            _ if it.strategy == StrategyId::RISK => "risk",
            Some(name) => name,
            None => {
                number = format!("#{}", it.strategy.0);
                &number
            }
        };
        put("strategy", Cell::Text(strategy));
        put("action", Cell::Text(it.action.text()));
        let scales = instrument.map_or(UNKNOWN, |it| (it.price_scale, it.qty_scale));
        match it.action {
            Action::Place => order(it, scales, put),
            Action::Cancel => put("side", Cell::Text(order_side(it.side))),
            Action::Result => {
                put("realised", money(Money(it.found)));
                put("expected", money(Money(it.limit)));
            }
            Action::State => {}
        }
        put("approved", Cell::Boolean(it.verdict == Verdict::Approved));
        if it.code != Code::None {
            put("code", Cell::Text(it.code.text()));
        }
        numbers(it, scales, put);
        if it.notional.0 != 0 {
            put("notional", money(it.notional));
        }
        put("cause", Cell::Count(it.cause.0));
        put("reason", Cell::Text(it.reason.text()));
        if it.action == Action::Place {
            let confidence = Decimal { units: i64::from(it.confidence), scale: 4 };
            put("confidence", Cell::Number(confidence));
        }
        trigger_or_tag(it, put);
        put("risk_state", Cell::Text(it.state.text()));
    }

    fn currency(&self, id: CurrencyId) -> &str {
        self.currencies.get(usize::from(id.0)).map_or("", String::as_str)
    }
}

fn report(news: &News, scales: (u8, u8), put: &mut Put<'_>) {
    match *news {
        News::Fill { order, side, price: at, qty: size, fee, maker } => {
            put("order_id", Cell::Order(order));
            put("state", Cell::Text(ReportState::Filled.text()));
            put("side", Cell::Text(order_side(side)));
            put("price", price(at, scales));
            put("qty", qty(size, scales));
            put("fee", money(fee));
            put("maker", Cell::Boolean(maker));
        }
        News::Report { order, side, state, remaining, code } => {
            put("order_id", Cell::Order(order));
            put("state", Cell::Text(state.text()));
            put("side", Cell::Text(order_side(side)));
            put("remaining", qty(remaining, scales));
            if code != Code::None {
                put("reason", Cell::Text(code.text()));
            }
        }
        News::Trade { .. }
        | News::Quote { .. }
        | News::Book { .. }
        | News::Gap { .. }
        | News::Status { .. }
        | News::Timer
        | News::Command { .. }
        | News::Balance { .. }
        | News::Config { .. }
        | News::Nothing => {}
    }
}

fn status(code: StatusCode, detail: i64, more: i64, put: &mut Put<'_>) {
    put("status", Cell::Text(code.text()));
    if code == StatusCode::Said {
        let words = Event::words_of(detail, more);
        let words = String::from_utf8_lossy(&words);
        put("text", Cell::Text(words.trim_end_matches('\0')));
        return;
    }
    put("detail", Cell::Signed(detail));
    if is_of_link(code) {
        put("link", Cell::Signed(more));
    }
}

/// Whether `more` of such a status is the number of a connection.
const fn is_of_link(code: StatusCode) -> bool {
    code as u8 >= StatusCode::LinkFrames as u8
        || matches!(
            code,
            StatusCode::LinkUp
                | StatusCode::LinkDown
                | StatusCode::LinkRefused
                | StatusCode::LinkReplaced
        )
}

fn order(it: &Decision, scales: (u8, u8), put: &mut Put<'_>) {
    put("side", Cell::Text(order_side(it.side)));
    put("type", Cell::Text(it.order_type.text()));
    put("tif", Cell::Text(it.tif.text()));
    if it.order_type == OrderType::Limit || it.price.0 != 0 {
        put("price", price(it.price, scales));
    }
    put("qty", qty(it.qty, scales));
    let known = [(OrderFlags::REDUCE_ONLY, "REDUCE_ONLY"), (OrderFlags::POST_ONLY, "POST_ONLY")];
    let mut names = [""; 2];
    let mut count = 0;
    for (flag, name) in known {
        if it.flags.has(flag) {
            names[count] = name;
            count += 1;
        }
    }
    if count > 0 {
        put("flags", Cell::List(&names[..count]));
    }
}

fn trigger_or_tag(it: &Decision, put: &mut Put<'_>) {
    if it.action != Action::State {
        if it.tag != 0 {
            put("tag", Cell::Count(u64::from(it.tag)));
        }
        return;
    }
    let known = [
        Trigger::Operator,
        Trigger::Drawdown,
        Trigger::DailyLoss,
        Trigger::RejectStorm,
        Trigger::Ledger,
    ];
    match known.iter().find(|known| **known as u16 == it.tag) {
        Some(trigger) => put("trigger", Cell::Text(trigger.text())),
        None => put("tag", Cell::Count(u64::from(it.tag))),
    }
}

/// The numbers that decided, in the unit that their code has.
fn numbers(it: &Decision, scales: (u8, u8), put: &mut Put<'_>) {
    if it.action == Action::Result || (it.found == 0 && it.limit == 0) {
        return;
    }
    let scale = match it.action {
        Action::State if it.tag == Trigger::DailyLoss as u16 => MONEY_SCALE,
        Action::State => 0,
        Action::Place | Action::Cancel | Action::Result => unit(it.code, scales),
    };
    let shown = |units| Cell::Decimal(Decimal { units, scale });
    put("found", shown(it.found));
    put("limit", shown(it.limit));
}

/// Decimals of the numbers behind a code; 0 for counts.
fn unit(code: Code, (price_scale, qty_scale): (u8, u8)) -> u8 {
    match code {
        Code::InvalidQuantity | Code::ResolvedQtyNonPositive => qty_scale,
        Code::MissingPrice | Code::InvalidPrice => price_scale,
        Code::MinNotional
        | Code::ReduceOnlyViolation
        | Code::PositionLimit
        | Code::MaxNotional
        | Code::MaxOrderSizeExceeded
        | Code::MaxPositionExposureExceeded
        | Code::NoPosition
        | Code::PositionReserved
        | Code::InsufficientCash => MONEY_SCALE,
        Code::None
        | Code::InvalidNumeric
        | Code::UnknownInstrument
        | Code::DuplicateClientOrderId
        | Code::Halted
        | Code::Reducing
        | Code::Killed
        | Code::MaxOpenOrders
        | Code::PriceBand
        | Code::OrderRate
        | Code::NoReferencePrice
        | Code::MarketDataStale
        | Code::Reconciling
        | Code::StrategyDisabled
        | Code::TradingStopped
        | Code::UnknownOrder
        | Code::PostOnlyWouldCross
        | Code::FokUnfilled
        | Code::NoLiquidity
        | Code::VenueRejected
        | Code::VenueUnavailable
        | Code::OrderTimeout
        | Code::Expired
        | Code::IocUnfilled
        | Code::IocPartialCancel
        | Code::UserCancel
        | Code::HaltCancel
        | Code::KillCancel
        | Code::ShutdownCancel
        | Code::DisconnectCancel
        | Code::VenueCancelled => 0,
    }
}

fn book_flags(flags: Flags, put: &mut Put<'_>) {
    let known = [(Flags::LAST, "LAST"), (Flags::SNAPSHOT, "SNAPSHOT"), (Flags::CLEAR, "CLEAR")];
    let mut names = [""; 3];
    let mut count = 0;
    for (flag, name) in known {
        if flags.has(flag) {
            names[count] = name;
            count += 1;
        }
    }
    put("flags", Cell::List(&names[..count]));
}

fn order_side(side: Side) -> &'static str {
    match side {
        Side::Buy => "buy",
        Side::Sell => "sell",
    }
}

fn book_side(side: Side) -> &'static str {
    match side {
        Side::Buy => "bid",
        Side::Sell => "ask",
    }
}

fn price(price: Price, (scale, _): (u8, u8)) -> Cell<'static> {
    Cell::Decimal(Decimal { units: price.0, scale })
}

fn qty(qty: Qty, (_, scale): (u8, u8)) -> Cell<'static> {
    Cell::Decimal(Decimal { units: qty.0, scale })
}

fn money(money: Money) -> Cell<'static> {
    Cell::Decimal(Decimal { units: money.0, scale: MONEY_SCALE })
}
