//! Redis, Valkey or DragonflyDB: last values, streams, notifications. A view, rebuilt from the journal.
//!
//! A batch is one MULTI: values, stream entries and the cursor together. Every command in it may come
//! again: stream entries have explicit ids `run-seq`, which a server takes once. Notifications are sent
//! on the first attempt only; whoever missed one reads the stream.
//!
//! Lanes share the instruments' market data among connections. Orders, fills and risk are lane 0 alone.

mod book;
mod commands;
mod connect;
mod say;
mod verbs;

use std::collections::{BTreeMap, HashMap};

use kairos_edge::config::Redis;
use kairos_edge::frames::Record;
use kairos_edge::render::Renderer;
use kairos_logic::event::Event;
use kairos_logic::instrument::Instrument;
use kairos_logic::units::InstrumentId;
use redis::{Connection, RedisError, Value};

use self::book::Known;
use self::commands::{Arg, Commands};
use self::connect::{exchange, failed, refused};
pub use self::verbs::{Streams, check, clear, held, skip, streams};
use crate::sink::{Batch, Cursor, Pending, Sink, SinkError};
use crate::source::{Entry, Run, Said};

/// The name of a lane beside the journal and in the status: `redis`, `redis-1`, …
#[must_use]
pub fn name(lane: u64) -> String {
    if lane == 0 { "redis".to_owned() } else { format!("redis-{lane}") }
}

/// The streams, in the order of a place's tops.
const STREAMS: [&str; 3] = ["stream:orders", "stream:fills", "stream:risk"];

/// How far a lane is, by its server.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    cursor: Cursor,
    tops: [(u64, u64); 3], // the last entry of each stream; zeros where there is none
}

/// What is last known of an instrument in this batch.
#[derive(Clone, Copy, Debug, Default)]
struct Touched {
    quote: Option<(u64, Event)>,
    trade: Option<(u64, Event)>,
}

/// The names that an instrument has in keys, and its scales.
#[derive(Clone, Debug)]
struct Named {
    key: String, // BASE-QUOTE.venue
    symbol: String,
    venue: String,
    mode: &'static str,
    price_scale: u8,
    qty_scale: u8,
}

/// The sink of one lane.
pub struct Lane {
    config: Redis,
    batch: Batch,
    lane: u64,
    journal: String,
    connection: Option<Connection>,
    epoch: u64,
    held: Cursor,
    told: (u64, u64),      // run and number of the last event whose notice was sent
    tops: [(u64, u64); 3], // the last entry of each stream, with what waits
    run: u64,
    instruments: Vec<Named>,
    renderer: Option<Renderer>,
    known: Known,
    touched: BTreeMap<u16, Touched>,
    body: Commands,    // in the order of events
    notices: Commands, // sent once
    sending: Commands,
    pending: Pending,
    text: String,
}

impl Lane {
    /// The sink of lane `lane` of `config.connections`.
    #[must_use]
    pub fn new(config: Redis, batch: Batch, lane: u64) -> Self {
        let batch = Batch { ms: batch.ms.min(config.coalesce_ms.max(1)), ..batch };
        Self {
            config,
            batch,
            lane,
            journal: String::new(),
            connection: None,
            epoch: 0,
            held: Cursor::START,
            told: (0, 0),
            tops: [(0, 0); 3],
            run: 0,
            instruments: Vec::new(),
            renderer: None,
            known: Known::default(),
            touched: BTreeMap::new(),
            body: Commands::default(),
            notices: Commands::default(),
            sending: Commands::default(),
            pending: Pending::default(),
            text: String::new(),
        }
    }

    /// What a commit would send, without its transaction, for comparing rates: how many commands, and
    /// their bytes. Nothing waits afterwards.
    pub fn take_batch(&mut self) -> (usize, Vec<u8>) {
        self.write_touched();
        self.body.append(&self.notices);
        let batch = (self.body.count(), self.body.bytes().to_vec());
        self.clear();
        batch
    }

    fn write_touched(&mut self) {
        for (id, touched) in std::mem::take(&mut self.touched) {
            self.market(InstrumentId(id), &touched);
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}drain:{name}:{}", self.config.key_prefix, self.lane)
    }

    fn clear(&mut self) {
        self.body.clear();
        self.notices.clear();
        self.touched.clear();
        self.pending = Pending::default();
    }

    fn connect(&mut self) -> Result<(), SinkError> {
        self.connection =
            Some(connect::connect(&self.config, &format!("kairos-drain/{}", self.lane))?);
        Ok(())
    }

    /// What the server has of this lane's place; the start where it has none.
    fn stored(&mut self) -> Result<Place, SinkError> {
        let key = self.key("offset");
        let journal = self.journal.clone();
        let connection = self.live()?;
        let stored: Vec<Option<String>> = redis::cmd("HMGET")
            .arg(&key)
            .arg(&["journal", "run", "next_seq", "crc", "orders", "fills", "risk"])
            .query(connection)
            .map_err(|error| failed("read the cursor", &error))?;
        let [Some(owner), Some(run), Some(next_seq), Some(crc), tops @ ..] = stored.as_slice()
        else {
            return Ok(Place::default());
        };
        if *owner != journal {
            return Err(SinkError::Diverged(format!(
                "key {key} is of journal {owner}; give this one a drain.redis.key_prefix of its own"
            )));
        }
        let (Ok(run), Ok(next_seq), Ok(crc)) = (run.parse(), next_seq.parse(), crc.parse()) else {
            return Err(SinkError::Diverged(format!("key {key} holds no cursor")));
        };
        let mut place = Place { cursor: Cursor { run, next_seq, crc }, ..Place::default() };
        for (top, stored) in place.tops.iter_mut().zip(tops) {
            *top = stored.as_deref().and_then(id_of).unwrap_or_default();
        }
        Ok(place)
    }

    /// Where to go on: where the server says, unless its streams are shorter than it says. Then all of
    /// the journal comes again; what is there is refused as such.
    fn place(&mut self) -> Result<Cursor, SinkError> {
        let Place { cursor, tops } = self.stored()?;
        self.tops = tops;
        for (stream, top) in STREAMS.into_iter().zip(tops) {
            if top == (0, 0) {
                continue;
            }
            let key = format!("{}{stream}", self.config.key_prefix);
            let found = last_id(self.live()?, &key)?;
            if found < top {
                eprintln!(
                    "kairos-drain: {}: {key} ends at {}-{} and must reach {}-{}: it is written anew",
                    name(self.lane),
                    found.0,
                    found.1,
                    top.0,
                    top.1
                );
                return Ok(Cursor::START);
            }
        }
        Ok(cursor)
    }

    fn live(&mut self) -> Result<&mut Connection, SinkError> {
        self.connection.as_mut().ok_or_else(|| SinkError::Transient("not connected".into()))
    }

    fn take_over(&mut self) -> Result<Cursor, SinkError> {
        let told = self.stored()?.cursor; // before anything of another journal is touched
        let key = self.key("epoch");
        let before = self.epoch;
        let connection = self.live()?;
        let failed = |error| failed("take over", &error);
        let mut epoch: u64 = redis::cmd("INCR").arg(&key).query(connection).map_err(failed)?;
        if epoch <= before {
            // The server forgot. Nobody from before may take this number for his own.
            let more = before + 1 - epoch;
            let ask = redis::cmd("INCRBY").arg(&key).arg(more).query(connection);
            epoch = ask.map_err(failed)?;
        }
        self.epoch = epoch;
        self.known = Known::default();
        // What was told before this process began, nobody knows: the stream has it.
        self.told = self.told.max((told.run, told.next_seq - 1));
        self.place()
    }

    fn send(&mut self, next: Cursor) -> Result<(), SinkError> {
        self.write_touched();
        let epoch_key = self.key("epoch");
        self.sending.clear();
        self.sending.push(&[Arg::Text("WATCH"), Arg::Text(&epoch_key)]);
        self.sending.push(&[Arg::Text("GET"), Arg::Text(&epoch_key)]);
        let epoch = self.epoch;
        let watching = std::mem::take(&mut self.sending);
        let connection = self.live()?;
        let mut answers = exchange(connection, &watching)?;
        self.sending = watching;
        let found = match answers.pop() {
            Some(Value::BulkString(bytes)) => {
                std::str::from_utf8(&bytes).ok().and_then(|it| it.parse::<u64>().ok())
            }
            _ => None,
        };
        if found != Some(epoch) {
            return Err(SinkError::InDoubt("the writer's number is not this drain's".into()));
        }
        self.sending.clear();
        self.sending.push(&[Arg::Text("MULTI")]);
        self.sending.append(&self.body);
        self.sending.append(&self.notices);
        self.push_place(next);
        self.sending.push(&[Arg::Text("EXEC")]);
        // From here on nobody knows whether subscribers heard of it.
        self.told = self.told.max((next.run, next.next_seq - 1));
        let sending = std::mem::take(&mut self.sending);
        let connection = self.live()?;
        let answered = exchange(connection, &sending);
        self.sending = sending;
        let results = match answered?.pop() {
            Some(Value::Array(results)) => results,
            Some(Value::Nil) => {
                return Err(SinkError::InDoubt("another writer came in between".into()));
            }
            Some(Value::ServerError(error)) => return Err(refused(&RedisError::from(error))),
            other => return Err(SinkError::InDoubt(format!("EXEC answered {other:?}"))),
        };
        for result in results {
            if let Value::ServerError(error) = result {
                let error = RedisError::from(error);
                // An id that is already there: this batch came before.
                if !error.to_string().contains("equal or smaller than the target stream top item") {
                    // The others of the batch were done, the cursor among them: it goes back.
                    self.put_back();
                    return Err(refused(&error));
                }
            }
        }
        Ok(())
    }

    /// Appends what says how far this lane is.
    fn push_place(&mut self, cursor: Cursor) {
        let key = self.key("offset");
        let [orders, fills, risk] = self.tops;
        self.sending.push(&[
            Arg::Text("HSET"),
            Arg::Text(&key),
            Arg::Text("journal"),
            Arg::Text(&self.journal),
            Arg::Text("run"),
            Arg::Shown(format_args!("{}", cursor.run)),
            Arg::Text("next_seq"),
            Arg::Shown(format_args!("{}", cursor.next_seq)),
            Arg::Text("crc"),
            Arg::Shown(format_args!("{}", cursor.crc)),
            Arg::Text("orders"),
            Arg::Shown(format_args!("{}-{}", orders.0, orders.1)),
            Arg::Text("fills"),
            Arg::Shown(format_args!("{}-{}", fills.0, fills.1)),
            Arg::Text("risk"),
            Arg::Shown(format_args!("{}-{}", risk.0, risk.1)),
        ]);
        if self.lane == 0 {
            let seq = cursor.next_seq - 1;
            let key = Arg::Joined(&self.config.key_prefix, "drain:offset");
            self.sending.push(&[Arg::Text("SET"), key, Arg::Shown(format_args!("{seq}"))]);
        }
    }

    /// The cursor as it was before a batch of which the server refused a part. Should this fail too,
    /// the streams' tops say at the next start what is missing.
    fn put_back(&mut self) {
        self.sending.clear();
        self.sending.push(&[Arg::Text("MULTI")]);
        self.push_place(self.held);
        self.sending.push(&[Arg::Text("EXEC")]);
        let sending = std::mem::take(&mut self.sending);
        if let Ok(connection) = self.live() {
            let _answers = exchange(connection, &sending);
        }
        self.sending = sending;
    }
}

impl Sink for Lane {
    fn attach(&mut self, journal: &str) -> Result<Cursor, SinkError> {
        self.clear();
        journal.clone_into(&mut self.journal);
        self.connect()?;
        self.held = self.take_over()?;
        Ok(self.held)
    }

    fn run(&mut self, run: &Run) -> Result<(), SinkError> {
        if run.number != self.run {
            self.run = run.number;
            self.known = Known::default();
        }
        self.renderer = Some(Renderer::new(&run.table, &run.strategies, run.clock));
        let named = |it: &Instrument| {
            let venue = run.table.venue_name(it.venue).to_owned();
            let (base, quote) =
                (run.table.currency_name(it.base), run.table.currency_name(it.quote));
            Named {
                key: format!("{base}-{quote}.{venue}"),
                symbol: it.symbol.clone(),
                mode: run.mode(&venue),
                venue,
                price_scale: it.price_scale,
                qty_scale: it.qty_scale,
            }
        };
        self.instruments = run.table.instruments.iter().map(named).collect();
        if self.lane == 0 {
            let key = Arg::Joined(&self.config.key_prefix, "control:status");
            self.body.push(&[Arg::Text("SET"), key, Arg::Text("RUNNING")]);
        }
        Ok(())
    }

    fn add(&mut self, _run: &Run, entry: &Entry<'_>) -> Result<(), SinkError> {
        self.pending.events += 1;
        match &entry.said {
            Said::Record(Record::Event(event)) => self.event(entry, event)?,
            Said::Record(Record::Decision { record, .. }) if self.lane == 0 => {
                self.decision(entry, record);
            }
            Said::Record(Record::Decision { .. } | Record::Part(_)) | Said::Skipped => {}
        }
        self.pending.bytes = self.body.bytes().len() + self.notices.bytes().len();
        Ok(())
    }

    fn pending(&self) -> Pending {
        self.pending
    }

    fn batch(&self) -> Batch {
        self.batch
    }

    fn commit(&mut self, next: Cursor) -> Result<(), SinkError> {
        let sent = self.send(next);
        self.clear();
        match sent {
            Ok(()) => {
                self.held = next;
                Ok(())
            }
            Err(error) => {
                self.connection = None;
                Err(error)
            }
        }
    }

    fn settle(&mut self) -> Result<(), SinkError> {
        if self.lane > 0 {
            return Ok(());
        }
        let key = format!("{}control:status", self.config.key_prefix);
        let connection = self.live()?;
        let _: Value = redis::cmd("SET")
            .arg(key)
            .arg("STOPPED")
            .query(connection)
            .map_err(|error| failed("say that the engine has stopped", &error))?;
        Ok(())
    }

    fn recall(&mut self) -> Result<Cursor, SinkError> {
        self.connection = None;
        self.known = Known::default();
        self.connect()?;
        let key = self.key("epoch");
        let connection = self.live()?;
        let epoch: Option<u64> = redis::cmd("GET")
            .arg(&key)
            .query(connection)
            .map_err(|error| failed("read the writer's number", &error))?;
        match epoch {
            Some(epoch) if epoch > self.epoch => {
                Err(SinkError::Fenced("another drain has taken over this server".into()))
            }
            Some(epoch) if epoch == self.epoch => {
                self.held = self.place()?;
                Ok(self.held)
            }
            // A server that forgot: nobody took over there.
            _ => {
                self.held = self.take_over()?;
                Ok(self.held)
            }
        }
    }

    fn discard(&mut self) {
        self.clear();
    }

    fn release(&mut self) {
        self.connection = None;
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// An id of a stream's entry.
fn id_of(text: &str) -> Option<(u64, u64)> {
    let (run, seq) = text.split_once('-')?;
    Some((run.parse().ok()?, seq.parse().ok()?))
}

/// The last id that a stream ever had; zeros where there is no such stream.
fn last_id(connection: &mut Connection, key: &str) -> Result<(u64, u64), SinkError> {
    let asked: Result<HashMap<String, Value>, _> =
        redis::cmd("XINFO").arg("STREAM").arg(key).query(connection);
    match asked {
        Ok(facts) => match facts.get("last-generated-id") {
            Some(Value::BulkString(text)) => {
                Ok(std::str::from_utf8(text).ok().and_then(id_of).unwrap_or_default())
            }
            _ => Ok((0, 0)),
        },
        Err(error) if error.to_string().contains("no such key") => Ok((0, 0)),
        Err(error) if error.is_io_error() => Err(failed("look at a stream", &error)),
        Err(error) => Err(refused(&error)),
    }
}
