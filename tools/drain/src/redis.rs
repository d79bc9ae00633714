//! Redis, Valkey or DragonflyDB: last values, streams, notifications. A view, rebuilt from the journal.
//!
//! A batch is one MULTI: values, stream entries and the cursor together. Every command in it may come
//! again: stream entries have explicit ids `run-seq`, which a server takes once. Notifications are sent
//! on the first attempt only; whoever missed one reads the stream.
//!
//! Lanes share the instruments' market data among connections. Orders, fills and risk are lane 0 alone.

mod book;
mod commands;

use std::collections::BTreeMap;
use std::time::Duration;

use kairos_edge::config::Redis;
use kairos_edge::frames::Record;
use kairos_edge::render::Renderer;
use kairos_logic::event::{Event, News, ReportState};
use kairos_logic::instrument::Instrument;
use kairos_logic::order::{Action, Decision, Verdict};
use kairos_logic::units::{InstrumentId, MONEY_SCALE, OrderId, Price, Qty, Side};
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisError,
    TlsCertificates, Value,
};

use self::book::{Known, Position, Traded, decimal};
use self::commands::{Arg, Commands};
use crate::postgres::connect::secret;
use crate::sink::{Batch, Cursor, Pending, Sink, SinkError};
use crate::source::{Entry, Run, Said};

/// The name of a lane beside the journal and in the status: `redis`, `redis-1`, …
#[must_use]
pub fn name(lane: u64) -> String {
    if lane == 0 { "redis".to_owned() } else { format!("redis-{lane}") }
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
    told: u64, // the last event whose notification was sent
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
            told: 0,
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

    fn connect(&mut self) -> Result<&mut Connection, SinkError> {
        let timeout = Duration::from_millis(self.config.timeout_ms);
        let client = client(&self.config)?;
        let connection = client
            .get_connection_with_timeout(timeout)
            .map_err(|error| failed("connect", &error))?;
        let limited = connection
            .set_read_timeout(Some(timeout))
            .and_then(|()| connection.set_write_timeout(Some(timeout)));
        limited.map_err(|error| failed("set a timeout", &error))?;
        let connection = self.connection.insert(connection);
        let name = format!("kairos-drain/{}", self.lane);
        let _: Value = redis::cmd("CLIENT")
            .arg("SETNAME")
            .arg(name)
            .query(connection)
            .map_err(|error| failed("name the connection", &error))?;
        Ok(connection)
    }

    /// The cursor on the server; the start where there is none.
    fn stored(&mut self) -> Result<Cursor, SinkError> {
        let key = self.key("offset");
        let journal = self.journal.clone();
        let connection = self.live()?;
        let stored: Vec<Option<String>> = redis::cmd("HMGET")
            .arg(&key)
            .arg(&["journal", "run", "next_seq", "crc"])
            .query(connection)
            .map_err(|error| failed("read the cursor", &error))?;
        let [Some(owner), Some(run), Some(next_seq), Some(crc)] = stored.as_slice() else {
            return Ok(Cursor::START);
        };
        if *owner != journal {
            return Err(SinkError::Diverged(format!(
                "key {key} is of journal {owner}; give this one a drain.redis.key_prefix of its own"
            )));
        }
        match (run.parse(), next_seq.parse(), crc.parse()) {
            (Ok(run), Ok(next_seq), Ok(crc)) => Ok(Cursor { run, next_seq, crc }),
            _ => Err(SinkError::Diverged(format!("key {key} holds no cursor"))),
        }
    }

    fn live(&mut self) -> Result<&mut Connection, SinkError> {
        self.connection.as_mut().ok_or_else(|| SinkError::Transient("not connected".into()))
    }

    fn take_over(&mut self) -> Result<Cursor, SinkError> {
        let held = self.stored()?; // before anything of another journal is touched
        let key = self.key("epoch");
        let connection = self.live()?;
        let epoch: u64 = redis::cmd("INCR")
            .arg(&key)
            .query(connection)
            .map_err(|error| failed("take over", &error))?;
        self.epoch = epoch;
        self.known = Known::default();
        Ok(held)
    }

    fn named(&self, id: InstrumentId) -> Option<&Named> {
        self.instruments.get(id.index())
    }

    fn event(&mut self, entry: &Entry<'_>, event: &Event) -> Result<(), SinkError> {
        match event.news() {
            News::Trade { .. } => {
                if self.is_mine(event.instrument) {
                    let touched = self.touched.entry(event.instrument.0).or_default();
                    touched.trade = Some((entry.seq, *event));
                    self.tell_at_once(event.instrument);
                }
            }
            News::Quote { .. } => {
                if self.is_mine(event.instrument) {
                    let touched = self.touched.entry(event.instrument.0).or_default();
                    touched.quote = Some((entry.seq, *event));
                    self.tell_at_once(event.instrument);
                }
            }
            _ if self.lane > 0 => {}
            News::Fill { order, side, price, qty, .. } => {
                self.fill(entry, event.instrument, order, side, (price, qty))?;
            }
            News::Report { order, state, code, .. } => {
                self.report(entry, order, state.text(), code.text());
                if is_final(state) {
                    self.known.orders.remove(&order.0);
                }
            }
            News::Balance { total, available, .. } => {
                self.balance(entry, total.0, available.0);
            }
            News::Book { .. }
            | News::Gap { .. }
            | News::Status { .. }
            | News::Timer
            | News::Command { .. }
            | News::Config { .. }
            | News::Nothing => {}
        }
        Ok(())
    }

    fn is_mine(&self, id: InstrumentId) -> bool {
        u64::from(id.0) % self.config.connections == self.lane
    }

    /// Without coalescing every quote and trade is told.
    fn tell_at_once(&mut self, id: InstrumentId) {
        if self.config.coalesce_ms == 0
            && let Some(touched) = self.touched.remove(&id.0)
        {
            self.market(id, &touched);
        }
    }

    /// Last values of an instrument, and the notice of them.
    fn market(&mut self, id: InstrumentId, touched: &Touched) {
        use std::fmt::Write as _;

        let Some(named) = self.instruments.get(id.index()) else { return };
        let prefix = self.config.key_prefix.as_str();
        let key = format!("{prefix}market:tick:{}", named.key);
        let price = |it: Price| decimal(it.0, named.price_scale);
        let qty = |it: Qty| decimal(it.0, named.qty_scale);
        let mut fields: Vec<(&str, String)> =
            vec![("symbol", named.symbol.clone()), ("exchange", named.venue.clone())];
        let (mut seq, mut at) = (0, 0);
        if let Some((of, event)) = touched.quote
            && let News::Quote { bid, bid_qty, ask, ask_qty } = event.news()
        {
            (seq, at) = (of, event.at.0);
            fields.push(("bidPrice", price(bid).to_string()));
            fields.push(("bidVolume", qty(bid_qty).to_string()));
            fields.push(("askPrice", price(ask).to_string()));
            fields.push(("askVolume", qty(ask_qty).to_string()));
        }
        if let Some((of, event)) = touched.trade
            && let News::Trade { price: paid, qty: size, aggressor, .. } = event.news()
        {
            (seq, at) = (seq.max(of), event.at.0.max(at));
            fields.push(("price", price(paid).to_string()));
            fields.push(("volume", qty(size).to_string()));
            fields.push(("side", side(aggressor).to_owned()));
        }
        if seq > self.told {
            let text = &mut self.text;
            text.clear();
            let _ = write!(text, "{{\"run\":{},\"seq\":{seq},\"timestamp\":{at}", self.run);
            for (name, value) in &fields {
                // Names of venues and symbols may hold anything.
                let _ = write!(text, ",\"{name}\":{}", serde_json::Value::from(value.as_str()));
            }
            text.push('}');
            let channel = format!("{prefix}market_data:{}", named.key);
            self.notices.push(&[Arg::Text("PUBLISH"), Arg::Text(&channel), Arg::Text(text)]);
        }
        let (seq, at, run) = (seq.to_string(), at.to_string(), self.run.to_string());
        let mut arguments = vec![Arg::Text("HSET"), Arg::Text(&key)];
        for (name, value) in &fields {
            arguments.extend([Arg::Text(name), Arg::Text(value)]);
        }
        arguments.extend([
            Arg::Text("timestamp"),
            Arg::Text(&at),
            Arg::Text("run"),
            Arg::Text(&run),
            Arg::Text("seq"),
            Arg::Text(&seq),
        ]);
        self.body.push(&arguments);
        let ttl = self.config.tick_ttl_s;
        self.body.push(&[Arg::Text("EXPIRE"), Arg::Text(&key), Arg::Shown(format_args!("{ttl}"))]);
    }

    /// An entry of a stream, and the notice of it where `notify`.
    fn stream(&mut self, stream: &str, entry: &Entry<'_>, notify: bool) {
        let (Some(renderer), Said::Record(record)) = (&self.renderer, &entry.said) else { return };
        self.text.clear();
        self.text.push_str("{\"run\":");
        self.text.push_str(&self.run.to_string());
        self.text.push(',');
        let from = self.text.len();
        renderer.json(entry.seq, record, &mut self.text);
        self.text.remove(from); // the brace that the renderer began with
        let prefix = self.config.key_prefix.as_str();
        let (run, seq, most) = (self.run, entry.seq, self.config.stream_maxlen);
        self.body.push(&[
            Arg::Text("XADD"),
            Arg::Joined(prefix, stream),
            Arg::Text("MAXLEN"),
            Arg::Text("~"),
            Arg::Shown(format_args!("{most}")),
            Arg::Shown(format_args!("{run}-{seq}")),
            Arg::Text("data"),
            Arg::Text(&self.text),
        ]);
        if notify && seq > self.told {
            let channel = Arg::Joined(prefix, "order_updates");
            self.notices.push(&[Arg::Text("PUBLISH"), channel, Arg::Text(&self.text)]);
        }
    }

    fn expire_order(&mut self, key: &str) {
        let ttl = self.config.order_ttl_s;
        self.body.push(&[Arg::Text("EXPIRE"), Arg::Text(key), Arg::Shown(format_args!("{ttl}"))]);
    }

    fn report(&mut self, entry: &Entry<'_>, order: OrderId, status: &str, reason: &str) {
        self.stream("stream:orders", entry, true);
        let key = format!("{}order:{order}", self.config.key_prefix);
        let seq = entry.seq;
        let reason = if reason == "none" { "" } else { reason };
        self.body.push(&[
            Arg::Text("HSET"),
            Arg::Text(&key),
            Arg::Text("status"),
            Arg::Text(&status.to_ascii_uppercase()),
            Arg::Text("reason"),
            Arg::Text(reason),
            Arg::Text("seq"),
            Arg::Shown(format_args!("{seq}")),
        ]);
        self.expire_order(&key);
    }

    fn decision(&mut self, entry: &Entry<'_>, it: &Decision) {
        let denied = it.verdict == Verdict::Denied;
        match it.action {
            Action::Place => {
                self.stream("stream:orders", entry, true);
                if denied {
                    self.stream("stream:risk", entry, false);
                } else {
                    self.known.orders.insert(it.order.0, Traded::default());
                }
                let Some(named) = self.named(it.instrument) else { return };
                let key = format!("{}order:{}", self.config.key_prefix, it.order);
                let (symbol, qty_scale) = (named.key.clone(), named.qty_scale);
                let status = if denied { "DENIED" } else { "APPROVED" };
                let reason = if denied { it.code.text() } else { "" };
                let quantity = decimal(it.qty.0, qty_scale);
                let (order, seq) = (it.order, entry.seq);
                self.body.push(&[
                    Arg::Text("HSET"),
                    Arg::Text(&key),
                    Arg::Text("symbol"),
                    Arg::Text(&symbol),
                    Arg::Text("side"),
                    Arg::Text(side(it.side)),
                    Arg::Text("status"),
                    Arg::Text(status),
                    Arg::Text("quantity"),
                    Arg::Shown(format_args!("{quantity}")),
                    Arg::Text("filled_quantity"),
                    Arg::Text("0"),
                    Arg::Text("avg_price"),
                    Arg::Text("0"),
                    Arg::Text("reason"),
                    Arg::Text(reason),
                    Arg::Text("client_order_id"),
                    Arg::Shown(format_args!("{order}")),
                    Arg::Text("seq"),
                    Arg::Shown(format_args!("{seq}")),
                ]);
                self.expire_order(&key);
            }
            Action::Cancel => self.stream("stream:orders", entry, true),
            // How a cycle of orders has ended is for those who ask the tables.
            Action::Result => {}
            Action::State => {
                self.stream("stream:risk", entry, false);
                let (since, seq) = (it.at.0, entry.seq);
                let state = it.state.text().to_ascii_uppercase();
                let prefix = self.config.key_prefix.as_str();
                self.body.push(&[
                    Arg::Text("HSET"),
                    Arg::Joined(prefix, "risk:state"),
                    Arg::Text("state"),
                    Arg::Text(&state),
                    Arg::Text("since"),
                    Arg::Shown(format_args!("{since}")),
                    Arg::Text("reason"),
                    Arg::Text(it.code.text()),
                    Arg::Text("seq"),
                    Arg::Shown(format_args!("{seq}")),
                ]);
            }
        }
    }

    fn fill(
        &mut self,
        entry: &Entry<'_>,
        id: InstrumentId,
        order: OrderId,
        of: Side,
        (price, qty): (Price, Qty),
    ) -> Result<(), SinkError> {
        self.stream("stream:fills", entry, true);
        let Some(named) = self.named(id).cloned() else { return Ok(()) };
        let prefix = self.config.key_prefix.clone();
        let key = format!("{prefix}order:{order}");
        let mut traded = match self.known.orders.get(&order.0) {
            Some(traded) => *traded,
            None => self.ask_order(&key, entry.seq)?,
        };
        traded.add(price.0, qty.0);
        self.known.orders.insert(order.0, traded);
        let seq = entry.seq;
        let (filled, average) =
            (decimal(traded.qty, named.qty_scale), decimal(traded.average(), named.price_scale));
        let (units, value) = (traded.qty, traded.value);
        self.body.push(&[
            Arg::Text("HSET"),
            Arg::Text(&key),
            Arg::Text("status"),
            Arg::Text("FILLED"),
            Arg::Text("filled_quantity"),
            Arg::Shown(format_args!("{filled}")),
            Arg::Text("avg_price"),
            Arg::Shown(format_args!("{average}")),
            Arg::Text("traded"),
            Arg::Shown(format_args!("{units} {value}")),
            Arg::Text("seq"),
            Arg::Shown(format_args!("{seq}")),
        ]);
        self.expire_order(&key);
        let key = format!("{prefix}position:{}:{}", named.mode, named.key);
        let mut position = match self.known.positions.get(&id.0) {
            Some(position) => *position,
            None => self.ask_position(&key, entry.seq)?,
        };
        position.add(of, price.0, qty.0);
        self.known.positions.insert(id.0, position);
        let json = serde_json::json!({
            "run": self.run,
            "seq": seq,
            "symbol": named.key,
            "mode": named.mode,
            "quantity": decimal(position.qty, named.qty_scale).to_string(),
            "average_price": decimal(position.average(), named.price_scale).to_string(),
            "units": position.qty,
            "cost": position.cost.to_string(),
        });
        self.body.push(&[Arg::Text("SET"), Arg::Text(&key), Arg::Text(&json.to_string())]);
        Ok(())
    }

    /// What an order traded before this drain began, as the server knows it. What it knows of later
    /// events (after it went back) is not used.
    fn ask_order(&mut self, key: &str, seq: u64) -> Result<Traded, SinkError> {
        let connection = self.live()?;
        let stored: (Option<String>, Option<u64>) = redis::cmd("HMGET")
            .arg(key)
            .arg(&["traded", "seq"])
            .query(connection)
            .map_err(|error| failed("read an order", &error))?;
        let (Some(traded), Some(of)) = stored else { return Ok(Traded::default()) };
        let numbers = traded.split_once(' ').filter(|_| of < seq);
        let read = numbers.and_then(|(qty, value)| {
            Some(Traded { qty: qty.parse().ok()?, value: value.parse().ok()? })
        });
        Ok(read.unwrap_or_default())
    }

    fn ask_position(&mut self, key: &str, seq: u64) -> Result<Position, SinkError> {
        let run = self.run;
        let connection = self.live()?;
        let stored: Option<String> = redis::cmd("GET")
            .arg(key)
            .query(connection)
            .map_err(|error| failed("read a position", &error))?;
        let read = stored.and_then(|text| {
            let json: serde_json::Value = serde_json::from_str(&text).ok()?;
            let of = json.get("seq")?.as_u64()?;
            // A run begins with an account of its own.
            (json.get("run")?.as_u64()? == run && of < seq).then_some(())?;
            let cost = json.get("cost")?.as_str()?.parse().ok()?;
            Some(Position { qty: json.get("units")?.as_i64()?, cost })
        });
        Ok(read.unwrap_or_default())
    }

    fn balance(&mut self, entry: &Entry<'_>, total: i64, available: i64) {
        let Some(renderer) = &self.renderer else { return };
        let Said::Record(record) = &entry.said else { return };
        self.text.clear();
        renderer.json(entry.seq, record, &mut self.text);
        let json: serde_json::Value = serde_json::from_str(&self.text).unwrap_or_default();
        let word = |key: &str| json.get(key).and_then(|it| it.as_str()).unwrap_or("").to_owned();
        let (venue, currency) = (word("venue"), word("currency"));
        if currency.is_empty() {
            return;
        }
        let mode =
            self.instruments.iter().find(|it| it.venue == venue).map_or("paper", |it| it.mode);
        let key = format!("{}balance:{mode}:{currency}", self.config.key_prefix);
        let shown = |units| decimal(units, MONEY_SCALE).to_string();
        let (all, free, locked) =
            (shown(total), shown(available), shown(total.saturating_sub(available)));
        let seq = entry.seq;
        self.body.push(&[
            Arg::Text("HSET"),
            Arg::Text(&key),
            Arg::Text("available"),
            Arg::Text(&free),
            Arg::Text("locked"),
            Arg::Text(&locked),
            Arg::Text("total"),
            Arg::Text(&all),
            Arg::Text("seq"),
            Arg::Shown(format_args!("{seq}")),
        ]);
    }

    fn send(&mut self, next: Cursor) -> Result<(), SinkError> {
        self.write_touched();
        let (epoch_key, offset_key) = (self.key("epoch"), self.key("offset"));
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
        self.sending.push(&[
            Arg::Text("HSET"),
            Arg::Text(&offset_key),
            Arg::Text("journal"),
            Arg::Text(&self.journal),
            Arg::Text("run"),
            Arg::Shown(format_args!("{}", next.run)),
            Arg::Text("next_seq"),
            Arg::Shown(format_args!("{}", next.next_seq)),
            Arg::Text("crc"),
            Arg::Shown(format_args!("{}", next.crc)),
        ]);
        self.sending.push(&[Arg::Text("EXEC")]);
        // From here on nobody knows whether subscribers heard of it.
        self.told = self.told.max(next.next_seq - 1);
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
                    return Err(refused(&error));
                }
            }
        }
        Ok(())
    }
}

impl Sink for Lane {
    fn attach(&mut self, journal: &str) -> Result<Cursor, SinkError> {
        self.clear();
        journal.clone_into(&mut self.journal);
        self.connect()?;
        self.held = self.take_over()?;
        // What was told before this process began, nobody knows: the stream has it.
        self.told = self.held.next_seq - 1;
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
                self.held = self.stored()?;
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

    fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// Sends everything at once and reads an answer to each command.
fn exchange(connection: &mut Connection, commands: &Commands) -> Result<Vec<Value>, SinkError> {
    let lost = |error: RedisError| SinkError::InDoubt(format!("no answer: {error}"));
    connection.send_packed_command(commands.bytes()).map_err(lost)?;
    let mut answers = Vec::with_capacity(2);
    let mut refusal = None;
    for _ in 0..commands.count() {
        match connection.recv_response() {
            Ok(Value::ServerError(error)) => refusal = Some(RedisError::from(error)),
            Ok(answer) => {
                answers.truncate(1);
                answers.push(answer);
            }
            Err(error) if error.is_io_error() || error.is_timeout() => return Err(lost(error)),
            Err(error) => refusal = Some(error),
        }
    }
    match refusal {
        Some(error) => Err(refused(&error)),
        None => Ok(answers),
    }
}

/// An error that the server answered: what will pass is the rule, the rest has its words.
fn refused(error: &RedisError) -> SinkError {
    let why = format!("the server refused: {error}");
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["OOM", "MISCONF"]) {
        SinkError::Full(why)
    } else if says(&["WRONGTYPE", "NOPERM", "unknown command"]) {
        SinkError::Rejected(why)
    } else {
        SinkError::Transient(why)
    }
}

/// An error outside of a batch.
fn failed(what: &str, error: &RedisError) -> SinkError {
    SinkError::Transient(format!("cannot {what}: {error}"))
}

fn client(config: &Redis) -> Result<Client, SinkError> {
    let bad = |error: RedisError| SinkError::Rejected(format!("drain.redis.url: {error}"));
    let info: ConnectionInfo = config.url.as_str().into_connection_info().map_err(bad)?;
    let mut settings = info.redis_settings().clone();
    if let Some(secret) = secret("redis-password", "REDIS_PASSWORD") {
        settings = settings.set_password(secret);
    }
    let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let info = info.set_redis_settings(settings);
    if !is_tls {
        return Client::open(info).map_err(bad);
    }
    // The library takes the process's choice of cryptography; a second call changes nothing.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    let root_cert = match &config.ca_file {
        Some(path) => Some(std::fs::read(path).map_err(|error| {
            SinkError::Rejected(format!("ca_file {}: {error}", path.display()))
        })?),
        None => None,
    };
    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert }).map_err(bad)
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Buy => "BUY",
        Side::Sell => "SELL",
    }
}

/// States after which an order does not trade any more, but for late reports.
fn is_final(state: ReportState) -> bool {
    match state {
        ReportState::Denied
        | ReportState::Rejected
        | ReportState::Cancelled
        | ReportState::Expired => true,
        ReportState::Sent
        | ReportState::Acked
        | ReportState::Filled
        | ReportState::Unknown
        | ReportState::CancelRejected => false,
    }
}

/// Streams by name, each with the run and `seq` of its entries.
pub type Streams = Vec<(&'static str, Vec<(u64, u64)>)>;

/// What the streams hold, and the cursor beside them. Nothing is changed.
///
/// # Errors
/// [`SinkError`] where the server cannot be asked or holds another journal.
pub fn streams(config: &Redis, journal: &str) -> Result<(Cursor, Streams), SinkError> {
    let batch = Batch { rows: 1, catchup_rows: 1, bytes: 1, ms: 1 };
    let mut lane = Lane::new(config.clone(), batch, 0);
    journal.clone_into(&mut lane.journal);
    lane.connect()?;
    let cursor = lane.stored()?;
    let mut all = Vec::new();
    for stream in ["stream:orders", "stream:fills", "stream:risk"] {
        let key = format!("{}{stream}", config.key_prefix);
        let connection = lane.live()?;
        let mut from = "-".to_owned();
        let mut ids = Vec::new();
        loop {
            let page: Vec<(String, Value)> = redis::cmd("XRANGE")
                .arg(&key)
                .arg(&from)
                .arg("+")
                .arg("COUNT")
                .arg(5_000)
                .query(connection)
                .map_err(|error| failed("read a stream", &error))?;
            for (id, _) in &page {
                let parts = id.split_once('-').and_then(|(run, seq)| {
                    Some((run.parse::<u64>().ok()?, seq.parse::<u64>().ok()?))
                });
                let parts = parts.unwrap_or((0, 0));
                // Behind the cursor's moment a running drain may have added more.
                if parts.1 < cursor.next_seq {
                    ids.push(parts);
                }
            }
            let Some((last, _)) = page.last() else { break };
            from = format!("({last}");
        }
        all.push((stream, ids));
    }
    Ok((cursor, all))
}

/// Deletes every key that the drain writes, so that the next run writes them anew.
///
/// # Errors
/// What the server says.
pub fn clear(config: &Redis) -> Result<(), SinkError> {
    let batch = Batch { rows: 1, catchup_rows: 1, bytes: 1, ms: 1 };
    let mut lane = Lane::new(config.clone(), batch, 0);
    lane.connect()?;
    let connection = lane.live()?;
    let told = |error: RedisError| failed("delete keys", &error);
    let escaped: String = config
        .key_prefix
        .chars()
        .flat_map(|it| ['\\', it].into_iter().skip(usize::from(it.is_ascii_alphanumeric())))
        .collect();
    // The epoch stays: a drain that still runs is fenced rather than let on.
    for name in [
        "drain:offset:*",
        "market:tick:*",
        "order:*",
        "position:*",
        "balance:*",
        "stream:orders",
        "stream:fills",
        "stream:risk",
        "risk:state",
        "control:status",
    ] {
        let mut from = 0_u64;
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(from)
                .arg("MATCH")
                .arg(format!("{escaped}{name}"))
                .arg("COUNT")
                .arg(10_000)
                .query(connection)
                .map_err(told)?;
            if !keys.is_empty() {
                let _: Value = redis::cmd("DEL").arg(&keys).query(connection).map_err(told)?;
            }
            from = next;
            if from == 0 {
                break;
            }
        }
    }
    for lane in 0..config.connections {
        let key = format!("{}drain:epoch:{lane}", config.key_prefix);
        let _: Value = redis::cmd("INCR").arg(key).query(connection).map_err(told)?;
    }
    Ok(())
}
