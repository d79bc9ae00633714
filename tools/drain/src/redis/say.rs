//! What the commands of a batch say: values, stream entries and notices, event by event.

use kairos_logic::event::{Event, News, ReportState};
use kairos_logic::order::{Action, Decision, Verdict};
use kairos_logic::units::{InstrumentId, MONEY_SCALE, OrderId, Price, Qty, Side};

use super::book::{Position, Traded, decimal};
use super::commands::Arg;
use super::connect::failed;
use super::{Lane, Named, STREAMS, Touched};
use crate::sink::SinkError;
use crate::source::{Entry, Said};

impl Lane {
    fn named(&self, id: InstrumentId) -> Option<&Named> {
        self.instruments.get(id.index())
    }

    pub(super) fn event(&mut self, entry: &Entry<'_>, event: &Event) -> Result<(), SinkError> {
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
    pub(super) fn market(&mut self, id: InstrumentId, touched: &Touched) {
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
        if (self.run, seq) > self.told {
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
        for (top, name) in self.tops.iter_mut().zip(STREAMS) {
            if name == stream {
                *top = (*top).max((run, seq)); // less where all of the journal comes again
            }
        }
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
        if notify && (run, seq) > self.told {
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

    pub(super) fn decision(&mut self, entry: &Entry<'_>, it: &Decision) {
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
