//! Messages that place and cancel orders over the WebSocket interface, and ids both ways.
//!
//! What does not change from order to order is written once, when the encoder is made: encoding
//! copies it, sixteen bytes at a time, and fills in five numbers, eight digits at a time, without
//! allocation. Both write whole blocks, of which the next piece covers what is too much. Parameters stand in the order of their
//! names, which is the order that a signature covers: what has to be signed follows from
//! [`Encoded::params`], and `apiKey` and `signature` have their places before and behind it. Without
//! them the venue takes a message only on a connection that has logged on.

use std::ops::Range;

use kairos_logic::digits;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{Action, Decision, OrderFlags, OrderType, TimeInForce};
use kairos_logic::units::{InstrumentId, Nanos, OrderId, POW10, Side, VenueId};

/// Room that every message fits into, in bytes: fixed text 190, a symbol of 23, ids twice 23, two
/// decimals of 21, a time of 20, and what a block may be longer than its text.
pub const MESSAGE_MAX: usize = 512;
/// Longest client order id: letter, run of 8 digits, hyphen, counter of 13 digits.
pub const CLIENT_ID_MAX: usize = 23;

/// First letter of our client order ids.
const OURS: u8 = b'k';

/// Why a decision is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Its instrument is not one of the venue's.
    #[error("instrument {0:?} is not traded here")]
    UnknownInstrument(InstrumentId),
    /// It neither places nor cancels.
    #[error("a decision about {0:?} is no order")]
    NotAnOrder(Action),
    /// A price or quantity that is not positive.
    #[error("price or quantity {0} is not positive")]
    NotPositive(i64),
    /// An order that must rest and must not rest.
    #[error("post-only does not go with {0:?}")]
    PostOnly(TimeInForce),
    /// The buffer is shorter than [`MESSAGE_MAX`].
    #[error("no room for the message")]
    NoRoom,
}

/// A message, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded<'a> {
    /// The whole text, in ASCII where the symbol is.
    pub text: &'a [u8],
    /// Where its parameters stand, without the braces around them.
    pub params: Range<usize>,
}

/// How the venue calls what an order may be.
#[derive(Clone, Copy)]
enum Shape {
    Limit(TimeInForce),
    LimitMaker,
    Market,
}

impl Shape {
    const ALL: [Self; 5] = [
        Self::Limit(TimeInForce::Gtc),
        Self::Limit(TimeInForce::Ioc),
        Self::Limit(TimeInForce::Fok),
        Self::LimitMaker,
        Self::Market,
    ];

    fn of(decision: &Decision) -> Result<Self, EncodeError> {
        let post_only = decision.flags.has(OrderFlags::POST_ONLY);
        match (decision.order_type, decision.tif, post_only) {
            (OrderType::Market, _, false) => Ok(Self::Market),
            (OrderType::Limit, tif, false) => Ok(Self::Limit(tif)),
            (OrderType::Limit, TimeInForce::Gtc, true) => Ok(Self::LimitMaker),
            (OrderType::Limit | OrderType::Market, tif, true) => Err(EncodeError::PostOnly(tif)),
        }
    }

    /// Place in [`Self::ALL`].
    fn index(self) -> usize {
        match self {
            Self::Limit(TimeInForce::Gtc) => 0,
            Self::Limit(TimeInForce::Ioc) => 1,
            Self::Limit(TimeInForce::Fok) => 2,
            Self::LimitMaker => 3,
            Self::Market => 4,
        }
    }

    /// What follows the quantity, up to the time, and what follows the time.
    fn tail(self, side: &str, symbol: &str) -> String {
        let tif = match self {
            Self::Limit(TimeInForce::Gtc) => ",\"timeInForce\":\"GTC\"",
            Self::Limit(TimeInForce::Ioc) => ",\"timeInForce\":\"IOC\"",
            Self::Limit(TimeInForce::Fok) => ",\"timeInForce\":\"FOK\"",
            Self::LimitMaker | Self::Market => "",
        };
        format!("\",\"side\":\"{side}\",\"symbol\":\"{symbol}\"{tif},\"timestamp\":")
    }
}

/// The fixed text of one instrument.
#[derive(Debug)]
struct Template {
    tails: [[Fixed; 5]; 2], // by side, by shape
    cancel: Fixed,          // what follows the id of the order to cancel, up to the time
    price_scale: u8,
    qty_scale: u8,
}

impl Template {
    fn new(symbol: &str, price_scale: u8, qty_scale: u8) -> Self {
        let tails = |side: &str| Shape::ALL.map(|shape| Fixed::new(&shape.tail(side, symbol)));
        Self {
            tails: [tails("BUY"), tails("SELL")],
            cancel: Fixed::new(&format!("\",\"symbol\":\"{symbol}\",\"timestamp\":")),
            price_scale,
            qty_scale,
        }
    }
}

/// Bytes of a block of fixed text.
const BLOCK: usize = 16;

/// Text in whole blocks, the last one filled up.
#[derive(Debug)]
struct Fixed {
    blocks: Box<[[u8; BLOCK]]>,
    len: usize,
}

impl Fixed {
    fn new(text: &str) -> Self {
        let block = |bytes: &[u8]| {
            let mut block = [b' '; BLOCK];
            block.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            block
        };
        Self { blocks: text.as_bytes().chunks(BLOCK).map(block).collect(), len: text.len() }
    }
}

/// Writes the messages of one venue's instruments.
#[derive(Debug)]
pub struct OrderEncoder {
    templates: Vec<Option<Template>>, // by instrument id
}

impl OrderEncoder {
    /// Prepares the fixed text of every instrument of the venue.
    #[must_use]
    pub fn new(table: &InstrumentTable, venue: VenueId) -> Self {
        let template = |(_, it): (_, &kairos_logic::instrument::Instrument)| {
            let ours = it.venue == venue;
            ours.then(|| Template::new(&it.symbol, it.price_scale, it.qty_scale))
        };
        Self { templates: table.iter().map(template).collect() }
    }

    /// Writes the message of a decision that places or cancels into `buffer`. `now` becomes the
    /// message's timestamp, in milliseconds: the venue refuses what is older than its window.
    ///
    /// # Errors
    /// [`EncodeError`]; nothing may be sent then.
    pub fn encode<'b>(
        &self,
        decision: &Decision,
        now: Nanos,
        buffer: &'b mut [u8],
    ) -> Result<Encoded<'b>, EncodeError> {
        let id = decision.instrument;
        let template = self.templates.get(id.index()).and_then(Option::as_ref);
        let template = template.ok_or(EncodeError::UnknownInstrument(id))?;
        let mut out = Out { buffer, len: 0 };
        let start = match decision.action {
            Action::Place => place(&mut out, template, decision, now)?,
            Action::Cancel => cancel(&mut out, template, decision, now)?,
            Action::State | Action::Result => {
                return Err(EncodeError::NotAnOrder(decision.action));
            }
        };
        let end = out.len;
        out.put(b"}}")?;
        let Out { buffer, len } = out;
        let text = buffer.get(..len).ok_or(EncodeError::NoRoom)?;
        Ok(Encoded { text, params: start..end })
    }
}

fn place(
    out: &mut Out<'_>,
    template: &Template,
    decision: &Decision,
    now: Nanos,
) -> Result<usize, EncodeError> {
    let shape = Shape::of(decision)?;
    let id = ClientId::new(decision.order);
    out.put(b"{\"id\":\"k")?;
    out.client_id(&id)?;
    out.put(b"\",\"method\":\"order.place\",\"params\":{")?;
    let start = out.len;
    out.put(b"\"newClientOrderId\":\"k")?;
    out.client_id(&id)?;
    match shape {
        Shape::Limit(_) | Shape::LimitMaker => {
            out.put(b"\",\"price\":\"")?;
            out.decimal(decision.price.0, template.price_scale)?;
        }
        Shape::Market => {}
    }
    out.put(b"\",\"quantity\":\"")?;
    out.decimal(decision.qty.0, template.qty_scale)?;
    let [buys, sells] = &template.tails;
    let tails = match decision.side {
        Side::Buy => buys,
        Side::Sell => sells,
    };
    if let Some(tail) = tails.get(shape.index()) {
        out.fixed(tail)?;
    }
    out.number(Number::of(now.0 / 1_000_000))?;
    match shape {
        Shape::Limit(_) => out.put(b",\"type\":\"LIMIT\"")?,
        Shape::LimitMaker => out.put(b",\"type\":\"LIMIT_MAKER\"")?,
        Shape::Market => out.put(b",\"type\":\"MARKET\"")?,
    }
    Ok(start)
}

fn cancel(
    out: &mut Out<'_>,
    template: &Template,
    decision: &Decision,
    now: Nanos,
) -> Result<usize, EncodeError> {
    let id = ClientId::new(decision.order);
    out.put(b"{\"id\":\"c")?; // replies to place and cancel must be told apart
    out.client_id(&id)?;
    out.put(b"\",\"method\":\"order.cancel\",\"params\":{")?;
    let start = out.len;
    out.put(b"\"origClientOrderId\":\"k")?;
    out.client_id(&id)?;
    out.fixed(&template.cancel)?;
    out.number(Number::of(now.0 / 1_000_000))?;
    Ok(start)
}

/// The client order id that an order has at the venue: `k<run>-<counter>`. Its bytes are in the
/// venue's charset (letters, digits, hyphen, underscore; at most 36).
///
/// # Errors
/// [`EncodeError::NoRoom`] in a buffer shorter than [`CLIENT_ID_MAX`].
pub fn write_client_id(order: OrderId, buffer: &mut [u8]) -> Result<&[u8], EncodeError> {
    // A block may be longer than its text.
    let mut room = [0; 2 * CLIENT_ID_MAX];
    let mut out = Out { buffer: &mut room, len: 0 };
    out.put(&[OURS])?;
    out.client_id(&ClientId::new(order))?;
    let len = out.len;
    let buffer = buffer.get_mut(..CLIENT_ID_MAX).ok_or(EncodeError::NoRoom)?;
    let text = buffer.get_mut(..len).zip(room.get(..len));
    let (text, written) = text.ok_or(EncodeError::NoRoom)?;
    text.copy_from_slice(written);
    Ok(text)
}

/// The order of a client order id; `None` for ids that [`write_client_id`] does not write, such as
/// those of orders that somebody else placed.
#[must_use]
pub fn read_client_id(text: &[u8]) -> Option<OrderId> {
    let ids = text.strip_prefix(&[OURS])?;
    let hyphen = ids.iter().position(|&byte| byte == b'-')?;
    let (run, counter) = ids.split_at_checked(hyphen)?;
    let run = number(run, 1 << (64 - OrderId::COUNTER_BITS))?;
    let counter = number(counter.get(1..)?, 1 << OrderId::COUNTER_BITS)?;
    Some(OrderId::new(run, counter))
}

/// Reads digits without leading zeros, below `limit`.
fn number(text: &[u8], limit: u64) -> Option<u64> {
    if text.is_empty() || (text.len() > 1 && text.starts_with(b"0")) {
        return None;
    }
    let value = text.iter().try_fold(0_u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    (value < limit).then_some(value)
}

/// The digits of a number, eight a word as [`digits::write`] gives them, the last ones last.
#[derive(Clone, Copy)]
struct Number {
    words: [u64; 3],
    /// How many of the digits stand before the first that counts, in 0..24.
    zeros: usize,
}

/// One more than the largest number of eight digits.
const EIGHT: u64 = 100_000_000;

impl Number {
    #[inline]
    const fn of(value: u64) -> Self {
        if value < EIGHT {
            let low = digits::write(value);
            return Self { words: [0, 0, low], zeros: 16 + leading(low) };
        }
        let (rest, low) = (value / EIGHT, digits::write(value % EIGHT));
        let (high, middle) = (digits::write(rest / EIGHT), digits::write(rest % EIGHT));
        let zeros = if high > 0 { leading(high) } else { 8 + leading(middle) };
        Self { words: [high, middle, low], zeros }
    }
}

/// Zeros before the first digit that counts; the last one always does.
#[inline]
const fn leading(digits: u64) -> usize {
    (digits.trailing_zeros() / 8) as usize - (digits == 0) as usize
}

/// Zeros behind the last digit that is none, in 0..=8.
#[inline]
const fn trailing(digits: u64) -> usize {
    (digits.leading_zeros() / 8) as usize
}

/// What follows the letter of a client order id: run, hyphen, counter.
struct ClientId {
    run: Number,
    counter: Number,
}

impl ClientId {
    #[inline]
    const fn new(order: OrderId) -> Self {
        Self { run: Number::of(order.run()), counter: Number::of(order.counter()) }
    }
}

/// A buffer that is being filled.
struct Out<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl Out<'_> {
    /// Writes a whole block of which `len` bytes count.
    #[inline]
    fn block<const N: usize>(&mut self, block: &[u8; N], len: usize) -> Result<(), EncodeError> {
        let room = self.buffer.get_mut(self.len..).and_then(|it| it.first_chunk_mut());
        *room.ok_or(EncodeError::NoRoom)? = *block;
        self.len += len;
        Ok(())
    }

    #[inline]
    fn put<const N: usize>(&mut self, text: &[u8; N]) -> Result<(), EncodeError> {
        self.block(text, N)
    }

    #[inline]
    fn fixed(&mut self, text: &Fixed) -> Result<(), EncodeError> {
        let start = self.len;
        for block in &text.blocks {
            self.block(block, BLOCK)?;
        }
        self.len = start + text.len;
        Ok(())
    }

    #[inline]
    fn client_id(&mut self, id: &ClientId) -> Result<(), EncodeError> {
        self.number(id.run)?;
        self.put(b"-")?;
        self.number(id.counter)
    }

    /// Writes the first `len` of eight digits behind the first `skip`.
    #[inline]
    fn eight(&mut self, digits: u64, skip: usize, len: usize) -> Result<(), EncodeError> {
        let text = (digits + digits::ZEROS) >> (8 * skip);
        self.block(&text.to_le_bytes(), len)
    }

    #[inline]
    fn number(&mut self, number: Number) -> Result<(), EncodeError> {
        let [high, middle, low] = number.words;
        match number.zeros {
            zeros @ 0..8 => {
                self.eight(high, zeros, 8 - zeros)?;
                self.eight(middle, 0, 8)?;
                self.eight(low, 0, 8)
            }
            zeros @ 8..16 => {
                self.eight(middle, zeros - 8, 16 - zeros)?;
                self.eight(low, 0, 8)
            }
            zeros => self.eight(low, zeros - 16, 24 - zeros),
        }
    }

    /// A positive decimal without trailing zeros behind the point.
    #[inline]
    fn decimal(&mut self, units: i64, scale: u8) -> Result<(), EncodeError> {
        let Ok(magnitude @ 1..) = u64::try_from(units) else {
            return Err(EncodeError::NotPositive(units));
        };
        let scale = usize::from(scale).min(POW10.len() - 1);
        let factor = POW10.get(scale).map_or(1, |it| it.unsigned_abs());
        let (whole, fraction) = (magnitude / factor, magnitude % factor);
        self.number(Number::of(whole))?;
        if fraction == 0 {
            return Ok(());
        }
        self.put(b".")?;
        if scale <= 8 {
            let digits = digits::write(fraction);
            return self.eight(digits, 8 - scale, scale - trailing(digits));
        }
        self.long_fraction(fraction, scale)
    }

    /// The digits of a fraction with more than eight of them; not zero.
    fn long_fraction(&mut self, fraction: u64, scale: usize) -> Result<(), EncodeError> {
        let Number { words, .. } = Number::of(fraction);
        let first = words.len() * 8 - scale;
        let last = words.iter().rposition(|&it| it != 0).unwrap_or(0);
        for (place, &digits) in words.iter().enumerate().take(last + 1).skip(first / 8) {
            let skip = first.saturating_sub(place * 8);
            let behind = if place == last { trailing(digits) } else { 0 };
            self.eight(digits, skip, 8 - skip - behind)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binance::instruments::undescribed;
    use crate::venue::listing::Fees;
    use kairos_logic::code::Code;
    use kairos_logic::order::{Reason, RiskState, Verdict};
    use kairos_logic::units::{Decimal, Money, Price, Qty, Seq, StrategyId};
    use proptest::prelude::*;

    const NOW: Nanos = Nanos(1_700_000_000_123_456_789);

    fn encoder() -> OrderEncoder {
        let mut table = InstrumentTable {
            venues: vec!["binance".into(), "other".into()],
            ..InstrumentTable::default()
        };
        for (venue, symbol) in [(0, "BTCUSDT"), (1, "ETHUSDT")] {
            let it = undescribed(symbol, VenueId(venue), Fees::default(), &mut table);
            table.instruments.push(it.unwrap());
        }
        table.instruments[0].price_scale = 2;
        OrderEncoder::new(&table, VenueId(0))
    }

    fn decision(order_type: OrderType, tif: TimeInForce, flags: OrderFlags) -> Decision {
        Decision {
            cause: Seq(1),
            at: NOW,
            order: OrderId::new(3, 41),
            price: Price(6_183_750),
            qty: Qty(1_000_000),
            found: 0,
            limit: 0,
            notional: Money(0),
            instrument: InstrumentId(0),
            confidence: 0,
            tag: 0,
            strategy: StrategyId(0),
            action: Action::Place,
            side: Side::Buy,
            order_type,
            tif,
            flags,
            reason: Reason::Entry,
            verdict: Verdict::Approved,
            code: Code::None,
            state: RiskState::Running,
        }
    }

    fn check(decision: &Decision, method: &str, params: &str) {
        let mut buffer = [0; MESSAGE_MAX];
        let encoded = encoder().encode(decision, NOW, &mut buffer).unwrap();
        assert_eq!(&encoded.text[encoded.params.clone()], params.as_bytes());
        let json: serde_json::Value = serde_json::from_slice(encoded.text).unwrap();
        assert_eq!(json["method"], method);
        let keys: Vec<_> = params.split(',').map(|it| it.split_once(':').unwrap().0).collect();
        assert!(keys.is_sorted(), "a signature covers sorted names: {keys:?}");
    }

    #[test]
    fn messages_say_what_was_decided() {
        use OrderType::{Limit, Market};
        use TimeInForce::{Fok, Gtc, Ioc};
        let none = OrderFlags::NONE;
        check(
            &decision(Limit, Gtc, none),
            "order.place",
            r#""newClientOrderId":"k3-41","price":"61837.5","quantity":"0.01","side":"BUY","symbol":"BTCUSDT","timeInForce":"GTC","timestamp":1700000000123,"type":"LIMIT""#,
        );
        let mut sell = decision(Limit, Ioc, none);
        sell.side = Side::Sell;
        sell.price = Price(7);
        sell.qty = Qty(12_300_000_000);
        check(
            &sell,
            "order.place",
            r#""newClientOrderId":"k3-41","price":"0.07","quantity":"123","side":"SELL","symbol":"BTCUSDT","timeInForce":"IOC","timestamp":1700000000123,"type":"LIMIT""#,
        );
        check(
            &decision(Limit, Gtc, OrderFlags::POST_ONLY),
            "order.place",
            r#""newClientOrderId":"k3-41","price":"61837.5","quantity":"0.01","side":"BUY","symbol":"BTCUSDT","timestamp":1700000000123,"type":"LIMIT_MAKER""#,
        );
        check(
            &decision(Market, Fok, none),
            "order.place",
            r#""newClientOrderId":"k3-41","quantity":"0.01","side":"BUY","symbol":"BTCUSDT","timestamp":1700000000123,"type":"MARKET""#,
        );
        let mut cancel = decision(Limit, Gtc, none);
        cancel.action = Action::Cancel;
        check(
            &cancel,
            "order.cancel",
            r#""origClientOrderId":"k3-41","symbol":"BTCUSDT","timestamp":1700000000123"#,
        );
    }

    #[test]
    fn what_is_no_order_is_not_encoded() {
        let good = decision(OrderType::Limit, TimeInForce::Gtc, OrderFlags::NONE);
        let mut buffer = [0; MESSAGE_MAX];
        let mut refused = |change: &dyn Fn(&mut Decision), want: EncodeError| {
            let mut bad = good;
            change(&mut bad);
            assert_eq!(encoder().encode(&bad, NOW, &mut buffer), Err(want));
        };
        refused(&|it| it.price = Price(0), EncodeError::NotPositive(0));
        refused(&|it| it.qty = Qty(-1), EncodeError::NotPositive(-1));
        for action in [Action::State, Action::Result] {
            refused(&|it| it.action = action, EncodeError::NotAnOrder(action));
        }
        for id in [1, 2, u16::MAX] {
            let id = InstrumentId(id);
            refused(&|it| it.instrument = id, EncodeError::UnknownInstrument(id));
        }
        let ioc = TimeInForce::Ioc;
        refused(
            &|it| (it.flags, it.tif) = (OrderFlags::POST_ONLY, ioc),
            EncodeError::PostOnly(ioc),
        );
        for room in 0..100 {
            let short = encoder().encode(&good, NOW, &mut buffer[..room]);
            assert_eq!(short, Err(EncodeError::NoRoom));
        }
    }

    #[test]
    fn the_longest_message_fits() {
        let mut table = InstrumentTable::default();
        let symbol = "ABCDEFGHIJKLMNOPQRSUSDT";
        let it = undescribed(symbol, VenueId(0), Fees::default(), &mut table);
        table.instruments.push(it.unwrap());
        let mut longest = decision(OrderType::Limit, TimeInForce::Gtc, OrderFlags::NONE);
        longest.order = OrderId(u64::MAX);
        (longest.price, longest.qty) = (Price(i64::MAX), Qty(i64::MAX));
        longest.side = Side::Sell;
        let mut buffer = [0; MESSAGE_MAX];
        let encoder = OrderEncoder::new(&table, VenueId(0));
        let encoded = encoder.encode(&longest, Nanos(u64::MAX), &mut buffer).unwrap();
        serde_json::from_slice::<serde_json::Value>(encoded.text).unwrap();
    }

    #[test]
    fn ids_of_others_are_not_ours() {
        for text in [
            "",
            "k",
            "k1",
            "k1-",
            "k-1",
            "k1-2-3",
            "K1-2",
            "k01-2",
            "k1-02",
            "k1-2 ",
            "web_1-2",
            "k16777216-1",
            "k1-1099511627776",
            "k1-99999999999999999999",
            "k+1-2",
        ] {
            assert_eq!(read_client_id(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read_client_id(b"k3-41"), Some(OrderId::new(3, 41)));
    }

    proptest! {
        #[test]
        fn digits_are_those_of_the_number(value: u64, shift in 0_u32..64) {
            for value in [value >> shift, shift.into(), 0, u64::MAX, EIGHT, EIGHT - 1, EIGHT * EIGHT] {
                let mut buffer = [0; 32];
                let mut out = Out { buffer: &mut buffer, len: 0 };
                out.number(Number::of(value)).unwrap();
                let len = out.len;
                prop_assert_eq!(std::str::from_utf8(&buffer[..len]).unwrap(), value.to_string());
            }
        }

        #[test]
        fn an_id_reads_back_and_stays_in_the_charset(id: u64) {
            let mut buffer = [0; CLIENT_ID_MAX];
            let text = write_client_id(OrderId(id), &mut buffer).unwrap();
            prop_assert!(text.iter().all(|it| it.is_ascii_alphanumeric() || *it == b'-'));
            prop_assert_eq!(read_client_id(text), Some(OrderId(id)));
        }

        #[test]
        fn decimals_are_those_of_the_one_display(
            units in 1..i64::MAX, scale in 0_u8..=18, shift in 0_u32..63, zeros in 0_usize..18,
        ) {
            let round = POW10[zeros];
            for units in [units, (units >> shift).max(1), (units / round).max(1) * round, round] {
                let mut buffer = [0; 48];
                let mut out = Out { buffer: &mut buffer, len: 0 };
                out.decimal(units, scale).unwrap();
                let len = out.len;
                prop_assert_eq!(
                    std::str::from_utf8(&buffer[..len]).unwrap(),
                    Decimal { units, scale }.to_string()
                );
            }
        }
    }
}
