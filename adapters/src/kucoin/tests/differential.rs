//! The scanner against the tape parser: what the scanner accepts, the parser reads the same; what
//! a mutation leaves meaningful, both sessions report the same; what it does not, both refuse.

use kairos_logic::units::VenueId;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::captures::{LEVEL2, SYMBOLS, WHOLE};
use crate::capture::{Capture, FrameKind};
use crate::kucoin::instruments::split_symbol;
use crate::kucoin::{Decoded, Decoder, KucoinMarket, Options};
use crate::session::{Fault, MarketSession};
use crate::testing::mutate::{damage, damaged, respelled};
use crate::testing::{captures, table_of, twins};
use crate::venue::Level;

/// One frame of every kind, as the venue spells it or has spelled it.
const FRAMES: [&str; 14] = [
    r#"{"topic":"/market/match:NRG-BTC","type":"message","subject":"trade.l3match","data":{"makerOrderId":"671b5007389355000701b1d3","price":"67523","sequence":"11067996711960577","side":"buy","size":"0.003","symbol":"NRG-BTC","takerOrderId":"671b50161777ff00074c168d","time":"1729843222921000000","tradeId":"11067996711960577","type":"match"}}"#,
    r#"{"type":"message","topic":"/market/match:NRG-BTC","subject":"trade.l3match","data":{"sequence":"1545896669145","type":"match","symbol":"NRG-BTC","side":"sell","price":"0.08200000000000000000","size":"0.01022222000000000000","tradeId":"5c24c5da03aa673885cd67aa","takerOrderId":"5c24c5d903aa6772d55b371e","makerOrderId":"5c2187d003aa677bd09d5c93","time":"1545913818099033203"}}"#,
    r#"{"data":{"symbol":"ANKR-BTC","side":"buy","type":"match","makerOrderId":"6085","sequence":"1612734157720","size":"46","price":"0.0000026071","takerOrderId":"6085","time":"1619378326388000000","tradeId":"6085c2d603aa67388"},"subject":"trade.l3match","topic":"/market/match:ANKR-BTC","type":"message"}"#,
    r#"{"topic":"/market/level2:NRG-BTC","type":"message","subject":"trade.l2update","data":{"changes":{"asks":[["67996.7","0.007","14610502970"]],"bids":[["67996.6","0","14610502971"],["0","0","14610502972"]]},"sequenceEnd":14610502972,"sequenceStart":14610502970,"symbol":"NRG-BTC","time":1729843222921}}"#,
    r#"{"data":{"sequenceStart":1612734157721,"symbol":"ANKR-BTC","changes":{"asks":[["0","0","1612734157721"]],"bids":[]},"sequenceEnd":1612734157721},"subject":"trade.l2update","topic":"/market/level2:ANKR-BTC","type":"message"}"#,
    r#"{"topic":"/market/ticker:NRG-BTC","type":"message","subject":"trade.ticker","data":{"bestAsk":"67218.7","bestAskSize":"1.92318539","bestBid":"67218.6","bestBidSize":"0.01045638","price":"67220","sequence":"14691455768","size":"0.00004316","time":1729757723612}}"#,
    r#"{"data":{"sequence":"1612734157720","bestAsk":"0.0000026192","size":"46","bestBidSize":"4051.2663","price":"0.0000026071","time":1619378326388,"bestAskSize":"4664.7644","bestBid":"0.0000026033"},"subject":"trade.ticker","topic":"/market/ticker:ANKR-BTC","type":"message"}"#,
    r#"{"topic":"/market/ticker:NRG-BTC","type":"message","subject":"trade.ticker","data":{"bestAsk":null,"bestAskSize":null,"bestBid":"67218.6","bestBidSize":"0.01045638","price":"67220","sequence":"14691455768","size":"0.00004316","time":1729757723612}}"#,
    r#"{"id":"1","type":"ack"}"#,
    r#"{"id":"NSkIrWGB1s","type":"welcome"}"#,
    r#"{"id":"100","type":"pong","timestamp":1729843222921}"#,
    r#"{"id":"2","type":"error","code":404,"data":"topic /market/match:NRG-BTC is not found"}"#,
    r#"{"topic":"/market/candles:NRG-BTC_1min","type":"message","subject":"trade.candles.update","data":{"symbol":"NRG-BTC","candles":["1"]}}"#,
    r#"{"code":"200000","data":{"time":1619378327055,"sequence":"1612734157720","bids":[["0.0000002181","83.07"]],"asks":[["0.0000002197","735.9"]]}}"#,
];
/// How many of them the scanner knows.
const SCANNED: usize = 7;
/// The one that is a reply to a request, not a message.
const REPLY: usize = 13;

/// What a decoder found.
type Found = (Decoded, Vec<Level>, Vec<u64>);

/// Both readers over one frame.
struct Readers {
    scanner: Decoder,
    parser: Decoder,
}

impl Readers {
    fn new() -> Self {
        let (table, ids) = table_of("kucoin", &SYMBOLS, split_symbol);
        let decoder = || Decoder::new(&table, VenueId(0), &ids);
        Self { scanner: decoder(), parser: decoder() }
    }

    fn parse(&mut self, frame: &[u8]) -> Result<Found, Fault> {
        let decoded = self.parser.parse(frame)?;
        Ok(found(&self.parser, decoded))
    }

    /// Whether the scanner knew the spelling; if so, it read what the parser reads.
    fn agree(&mut self, frame: &[u8]) -> bool {
        let Some(scanned) = self.scanner.scan(frame) else {
            return false;
        };
        let shown = String::from_utf8_lossy(frame);
        assert_eq!(self.parse(frame), Ok(found(&self.scanner, scanned)), "{shown}");
        true
    }
}

/// Levels mean something only beside a book update.
fn found(decoder: &Decoder, decoded: Decoded) -> Found {
    let levels = decoder.levels();
    match decoded {
        Decoded::Depth { .. } => {
            (decoded, levels.iter().map(|(_, level)| level).collect(), levels.tags().to_vec())
        }
        Decoded::Trade { .. }
        | Decoded::Quote { .. }
        | Decoded::Refused { .. }
        | Decoded::Ignored(_)
        | Decoded::UnknownSymbol => (decoded, Vec::new(), Vec::new()),
    }
}

#[test]
fn the_scanner_knows_every_recorded_spelling_and_reads_what_the_parser_reads() {
    let Some(folder) = captures() else { return };
    let mut readers = Readers::new();
    let mut capture = Capture::open(folder.join(LEVEL2)).unwrap();
    let (mut known, mut unknown) = (0, 0);
    while capture.advance().unwrap() {
        let frame = capture.frame().unwrap();
        if frame.kind == FrameKind::Text {
            let scanned = readers.agree(frame.bytes);
            *(if scanned { &mut known } else { &mut unknown }) += 1;
        }
    }
    assert_eq!((known, unknown), (641, 14), "a welcome and 13 replies to subscriptions");
}

#[test]
fn the_scanner_knows_the_spelling_of_everything_that_is_needed() {
    let mut readers = Readers::new();
    for (n, frame) in FRAMES.iter().enumerate() {
        assert_eq!(readers.agree(frame.as_bytes()), n < SCANNED, "{frame}");
        assert_eq!(readers.parse(frame.as_bytes()).is_ok(), n != REPLY, "{frame}");
    }
}

fn make(tape_only: bool) -> Box<dyn MarketSession> {
    let (table, ids) = table_of("kucoin", &SYMBOLS, split_symbol);
    let options = Options { tape_only, ..WHOLE };
    Box::new(KucoinMarket::new(&table, VenueId(0), &ids, options).unwrap())
}

#[test]
fn hostile_frames_are_counted_and_nothing_else() {
    twins::refuse_hostile(
        &make,
        &[
            &|it| FRAMES[0].replace("\"67523\"", it),
            &|it| FRAMES[3].replace("\"67996.7\"", it),
            &|it| FRAMES[5].replace("\"67218.7\"", it),
        ],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn another_spelling_means_the_same(frame in select(&FRAMES[..REPLY]), mut seed: u64) {
        let text = respelled(frame, &mut seed);
        let mut readers = Readers::new();
        readers.agree(text.as_bytes());
        prop_assert_eq!(readers.parse(text.as_bytes()), readers.parse(frame.as_bytes()));
    }

    #[test]
    fn damaged_frames_yield_the_same_from_both_and_never_a_panic(
        frames in prop::collection::vec(
            (select(&FRAMES), prop::collection::vec((any::<Index>(), damage()), 0..4)),
            1..6,
        ),
    ) {
        let frames: Vec<Vec<u8>> = frames
            .iter()
            .map(|(frame, damages)| damaged(frame.as_bytes(), damages))
            .collect();
        twins::agree(&make, &frames);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        twins::agree(&make, &[bytes]);
    }
}
