//! What the program believes: the sections of a checked configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kairos_logic::params::Params;
use kairos_logic::units::Money;

/// How strict the engine is about its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Warns where production refuses.
    Development,
    /// Refuses hosts and file systems that cannot keep the promises.
    Production,
}

/// `[engine]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Names the journal, the stats page and the command ring. 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// How strict the engine is about its host.
    pub profile: Profile,
    /// Seed of everything random.
    pub seed: u64,
    /// Limits and reports are in this currency. Upper case.
    pub currency: String,
    /// Slots of the ring IN. A power of two, at least 1 024.
    pub ring_slots: usize,
    /// Time between timer events, in milliseconds. In 1..=60 000.
    pub timer_ms: u64,
    /// Where the stats page lives; `None` for the usual places.
    pub run_dir: Option<PathBuf>,
}

/// What an order waits for before it leaves the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Its frame is in the mapped journal.
    Committed,
    /// Its frame is on disk.
    Durable,
    /// Nothing.
    Off,
}

impl Gate {
    /// The name used in the configuration.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Durable => "durable",
            Self::Off => "none",
        }
    }
}

/// What happens when no segment is ready for the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// Trading stops.
    Halt,
    /// Inputs wait.
    Block,
}

/// What happens when frames are not on disk for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagAction {
    /// It is reported.
    Alarm,
    /// Only exits pass.
    ReduceOnly,
    /// Trading stops.
    Halt,
}

/// How forgiving the start is with what the last run left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoverMode {
    /// Anything but a clean end is refused.
    Absolute,
    /// A torn tail is cut and reported.
    TolerateTornTail,
    /// Cuts below the durable mark where allowed.
    PointInTime,
}

/// Where segments lie while they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On disk, in the journal's directory.
    Direct,
    /// In a ring in memory, which the archiver copies to the journal's directory.
    Hot(HotRing),
}

impl Placement {
    /// The name used in the configuration.
    #[must_use]
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Hot(_) => "hot",
        }
    }
}

/// The ring of placement `hot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotRing {
    /// Its directory, on a memory file system.
    pub dir: PathBuf,
    /// Segments in it. In 4..=64.
    pub segments: usize,
    /// How long the start waits for the archiver, and the end for the last of it, in milliseconds.
    pub archiver_wait_ms: u64,
}

/// What the archiver does with sealed segments. Every bound that is not written keeps more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Level of zstd for sealed segments; `None` leaves them as they are.
    pub compress: Option<i32>,
    /// Days after which a run may go.
    pub keep_days: Option<u64>,
    /// Bytes of sealed segments above which the oldest runs may go.
    pub max_bytes: Option<u64>,
    /// Bytes of the newest sealed segments that always stay.
    pub keep_bytes_min: u64,
    /// How long ago a sink must have passed what goes, in seconds.
    pub prune_safety_s: u64,
    /// Sinks without whose position nothing goes, besides those that `[drain]` configures.
    pub required_sinks: Vec<String>,
    /// Whether `max_bytes` holds even where a sink has not passed what goes; it is then told.
    pub drop_undrained: bool,
}

/// `[journal]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// The journal's directory.
    pub dir: PathBuf,
    /// Where segments lie while they are written.
    pub placement: Placement,
    /// What becomes of sealed segments in the archive.
    pub retention: Retention,
    /// Bytes of a segment. A power of two, at least 2 MiB.
    pub segment_bytes: u64,
    /// What an order waits for.
    pub gate: Gate,
    /// Longest time between flushes, in milliseconds. In 1..=10 000.
    pub flush_interval_ms: u64,
    /// Bytes that make a flush early.
    pub flush_bytes: u64,
    /// Segments kept prepared. In 1..=64.
    pub ready_min: usize,
    /// Bytes ahead of the writer that are kept in memory.
    pub prefault_ahead: u64,
    /// Largest frame in bytes.
    pub frame_max: u32,
    /// How long the writer spins for a segment, in microseconds.
    pub not_ready_spin_us: u32,
    /// What happens then.
    pub not_ready: NotReady,
    /// Age of frames not on disk that raises an alarm, in milliseconds.
    pub durable_lag_alarm_ms: u64,
    /// Age of frames not on disk at which `lag_action` is taken, in milliseconds.
    pub durable_lag_act_ms: u64,
    /// What is done then.
    pub lag_action: LagAction,
    /// What is done at once when the archiver of placement `hot` fails.
    pub archiver_failed_action: LagAction,
    /// How forgiving the start is.
    pub recover: RecoverMode,
    /// Whether the start may give up frames that were reported durable.
    pub accept_loss: bool,
}

/// Where a venue's market data comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarketData {
    /// The venue itself.
    Live,
    /// Capture files.
    Capture,
    /// The seeded exchange.
    Sim,
}

/// Where a venue's orders go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionMode {
    /// To the venue that is not there.
    Paper,
}

/// How fast a capture is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it goes.
    Max,
    /// As it was recorded.
    Recorded,
    /// As it was recorded, times this in parts per million. Positive.
    FactorPpm(u64),
}

/// `[venues.<name>]`, enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Venue {
    /// Lower case.
    pub name: String,
    /// Where market data comes from.
    pub market_data: MarketData,
    /// Where orders go.
    pub execution: ExecutionMode,
    /// The venue's own symbols, at least one, none twice.
    pub instruments: Vec<String>,
    /// Capture files, at least one where `market_data` is a capture.
    pub captures: Vec<PathBuf>,
    /// How fast they are read.
    pub pace: Pace,
    /// Address of the public market data streams; `None` for the venue's own.
    pub ws_public_url: Option<String>,
    /// Address of the REST interface; `None` for the venue's own.
    pub rest_url: Option<String>,
    /// PEM file of certificate authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How long the kernel polls the device in a read that finds nothing, in microseconds; 0 leaves
    /// it to the system.
    pub busy_poll_us: u32,
    /// Whether segments are acknowledged at once.
    pub quick_ack: bool,
    /// Whether the kernel stamps what arrives.
    pub kernel_stamps: bool,
    /// Fee of orders that rested, in parts per million; negative is a rebate.
    pub maker_fee_ppm: i32,
    /// Fee of orders that took, in parts per million.
    pub taker_fee_ppm: i32,
}

/// `[instruments.<name>]`: what overrides the venue's own description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstrumentSpec {
    /// The operator's name for it.
    pub name: String,
    /// Where it trades.
    pub venue: String,
    /// The venue's symbol; the name where none is given.
    pub symbol: String,
    /// What is bought and sold. Upper case.
    pub base: Option<String>,
    /// What it is paid with. Upper case.
    pub quote: Option<String>,
    /// Decimals of a price. In 0..=12.
    pub price_scale: Option<u8>,
    /// Decimals of a quantity. In 0..=12.
    pub qty_scale: Option<u8>,
    /// Smallest step of a price, plain decimal text of a positive number.
    pub tick_size: Option<String>,
    /// Smallest step of a quantity, plain decimal text of a positive number.
    pub lot_size: Option<String>,
    /// Smallest quantity of an order, plain decimal text of a positive number.
    pub min_qty: Option<String>,
    /// Smallest value of an order in the quote currency.
    pub min_notional: Option<Money>,
}

/// `[strategies.<id>]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// The key of its section.
    pub id: String,
    /// Which strategy it is.
    pub kind: String,
    /// Whether it trades from the start.
    pub enabled: bool,
    /// What it trades, as written; `None` for every instrument.
    pub instruments: Option<Vec<String>>,
    /// Its own parameters as written; its constructor checks them.
    pub params: Params,
}

/// `[paper]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paper {
    /// What the account holds at the start, by currency in upper case; `None` for
    /// [`Paper::DEFAULT_BALANCE`] of every quote currency.
    pub balances: Option<BTreeMap<String, Money>>,
}

impl Paper {
    /// What a paper account holds of each quote currency where nothing is configured.
    pub const DEFAULT_BALANCE: Money = Money(100_000 * 100_000_000);
}

/// How resting paper orders fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakerModel {
    /// The displayed size ahead is consumed first.
    Queue,
    /// By a seeded chance at each event.
    Probability,
}

/// `[execution]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Time from decision to venue, in nanoseconds.
    pub latency_ns: u64,
    /// Most that is added to it at random, in nanoseconds.
    pub jitter_ns: u64,
    /// Time from venue to report, in nanoseconds.
    pub response_latency_ns: u64,
    /// How resting orders fill.
    pub maker_model: MakerModel,
    /// Scale of the chance in `probability`, in units of 1e-6. Positive.
    pub maker_queue_eta_ppm: u64,
}

/// `[feed]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// How long a feed holds a frame while IN is full, in milliseconds.
    pub hold_ms: u64,
    /// Age of an instrument's book at which it is stale, in milliseconds; 0 is never.
    pub stale_after_ms: u64,
    /// Levels kept on each side of a book. In 1..=4 096; a book keeps 40 at least, to know when too
    /// few are left.
    pub orderbook_depth: usize,
    /// First wait before connecting again, in milliseconds; doubles with each attempt.
    pub reconnect_initial_ms: u64,
    /// Longest wait before connecting again, in milliseconds.
    pub reconnect_max_ms: u64,
    /// Attempts in a row before a connection is given up; 0 is without end.
    pub reconnect_max_attempts: u32,
}

/// `[logging]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// `info`, `warn` or `error`, perhaps by target as in `warn,kairos=info`: what is said on stderr.
    pub filter: String,
}
