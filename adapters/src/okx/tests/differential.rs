//! The scanner against the tape parser: what the scanner accepts, the parser reads the same; what
//! a mutation leaves meaningful, both sessions report the same; what it does not, both refuse.

use kairos_logic::units::VenueId;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::captures::{BOOKS, SYMBOLS};
use crate::capture::Capture;
use crate::okx::instruments::split_symbol;
use crate::okx::{Decoded, Decoder, OkxMarket, Options, Trade};
use crate::session::{Fault, MarketSession};
use crate::testing::mutate::{damage, damaged, respelled};
use crate::testing::{captures, table_of, twins};
use crate::venue::Level;

/// One frame of every kind, as the venue spells it.
const FRAMES: [&str; 16] = [
    r#"{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"338476309","px":"30243.5","sz":"0.00684062","side":"buy","ts":"1652459226050"}]}"#,
    r#"{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"7","px":"30243.5","sz":"0.2","side":"sell","ts":"1652459226050","count":"3","source":"0","seqId":12},{"instId":"BTC-USDT","tradeId":"8","px":"30243","sz":"1","side":"sell","ts":"1652459226051","count":"1"}]}"#,
    r#"{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["30243.6","2.3","0","3"]],"bids":[["30243.5","0.1","0","1"]],"ts":"1652459226050","seqId":123456}]}"#,
    r#"{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[],"bids":[["30243.5","0.1","0","1"]],"ts":"1652459226050"}]}"#,
    r#"{"arg":{"channel":"tickers","instId":"UNI-USD-SWAP"},"data":[{"instType":"SWAP","instId":"UNI-USD-SWAP","last":"5.123","lastSz":"100","askPx":"5.142","askSz":"25","bidPx":"5.134","bidSz":"96","open24h":"4.799","high24h":"5.458","low24h":"4.537","sodUtc0":"4.654","sodUtc8":"5.204","volCcy24h":"577730.7823","vol24h":"289425","ts":"1652459223143"}]}"#,
    r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["30243.6","2.3","0","3"],["30244","1","0","1"]],"bids":[["30243.5","0.1","0","1"]],"ts":"1652459226050","checksum":0,"seqId":41,"prevSeqId":-1}]}"#,
    r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["30243.6","0","0","0"]],"bids":[],"ts":"1652459226150","checksum":0,"prevSeqId":41,"seqId":44}]}"#,
    r#"{"arg":{"channel":"books-l2-tbt","instId":"UNI-USD-SWAP"},"action":"update","data":[{"asks":[],"bids":[],"ts":"1652459226150","seqId":44,"prevSeqId":44}]}"#,
    r#"{"arg":{"channel":"books50-l2-tbt","instId":"BTC-USD-220527"},"action":"update","data":[{"asks":[],"bids":[["5.10","7.50","0","1"]],"ts":"1652459226150","checksum":-77}]}"#,
    r#"{"arg":{"channel":"books5","instId":"BTC-USDT"},"data":[{"asks":[["8476.98","415","0","13"]],"bids":[],"instId":"BTC-USDT","ts":"1597026383085","seqId":1}]}"#,
    r#"{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a1"}"#,
    r#"{"event":"error","code":"60018","msg":"Wrong URL or channel:books,instId:BTC-USDT does not exist","connId":"a1"}"#,
    r#"{"event":"error","code":"60012","msg":"Invalid request"}"#,
    r#"{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade","connId":"a1"}"#,
    r#"{"event":"channel-conn-count","channel":"books","connCount":"2","connId":"a1"}"#,
    r#"{"code":"0","msg":"","data":[{"asks":[["30243.6","2.3","0","3"]],"bids":[["30243.5","0.1","0","1"]],"ts":"1652459226050","seqId":43}]}"#,
];
/// How many of them the scanner knows.
const SCANNED: usize = 9;
/// The one that is a reply to a request, not a message.
const REPLY: usize = 15;

/// What a decoder found.
type Found = (Decoded, Vec<Trade>, Vec<Level>, Vec<u64>);

/// Both readers over one frame.
struct Readers {
    scanner: Decoder,
    parser: Decoder,
}

impl Readers {
    fn new(exact: bool) -> Self {
        let (table, ids) = table_of("okx", &SYMBOLS, split_symbol);
        let decoder = || {
            let mut decoder = Decoder::new(&table, VenueId(0), &ids);
            decoder.room.exact = exact;
            decoder
        };
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

/// What is beside a message means something only where the message says so.
fn found(decoder: &Decoder, decoded: Decoded) -> Found {
    let (trades, levels) = (decoder.trades().to_vec(), decoder.levels());
    let tags = levels.tags().to_vec();
    match decoded {
        Decoded::Trades { .. } => (decoded, trades, Vec::new(), Vec::new()),
        Decoded::Depth { .. } => {
            (decoded, Vec::new(), levels.iter().map(|(_, level)| level).collect(), tags)
        }
        Decoded::Quote { .. }
        | Decoded::Refused { .. }
        | Decoded::Ignored(_)
        | Decoded::UnknownSymbol => (decoded, Vec::new(), Vec::new(), Vec::new()),
    }
}

#[test]
fn the_scanner_knows_every_recorded_spelling_and_reads_what_the_parser_reads() {
    let Some(folder) = captures() else { return };
    for exact in [false, true] {
        let mut readers = Readers::new(exact);
        let mut capture = Capture::open(folder.join(BOOKS)).unwrap();
        let (mut known, mut unknown) = (0, 0);
        while capture.advance().unwrap() {
            let scanned = readers.agree(capture.frame().unwrap().bytes);
            *(if scanned { &mut known } else { &mut unknown }) += 1;
        }
        assert_eq!((known, unknown), (392, 18), "18 replies to subscriptions");
    }
}

#[test]
fn the_scanner_knows_the_spelling_of_everything_that_is_needed() {
    for exact in [false, true] {
        let mut readers = Readers::new(exact);
        for (n, frame) in FRAMES.iter().enumerate() {
            assert_eq!(readers.agree(frame.as_bytes()), n < SCANNED, "{frame}");
            assert_eq!(readers.parse(frame.as_bytes()).is_ok(), n != REPLY, "{frame}");
        }
    }
}

fn make(tape_only: bool) -> Box<dyn MarketSession> {
    let (table, ids) = table_of("okx", &SYMBOLS, split_symbol);
    let options = Options { tape_only, ..Options::default() };
    Box::new(OkxMarket::new(&table, VenueId(0), &ids, options).unwrap())
}

#[test]
fn hostile_frames_are_counted_and_nothing_else() {
    twins::refuse_hostile(
        &make,
        &[
            &|it| FRAMES[0].replace("\"30243.5\"", it),
            &|it| FRAMES[2].replace("\"30243.6\"", it),
            &|it| FRAMES[5].replace("\"30244\"", it),
        ],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn another_spelling_means_the_same(
        frame in select(&FRAMES[..REPLY]),
        mut seed: u64,
        exact: bool,
    ) {
        let text = respelled(frame, &mut seed);
        let mut readers = Readers::new(exact);
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
