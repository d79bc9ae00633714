//! Clients of the five venues, written from their descriptions the plain way: what a careful user
//! would do by hand, and nothing of kairos.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a client wants next.
#[derive(Debug)]
pub(crate) enum Wish {
    Send(String),
    /// The answer goes to [`Reader::rest`] with the symbol.
    Get {
        symbol: String,
        target: String,
    },
    Reconnect,
}

/// Quantity by price, both in 10^-8.
pub(crate) type Side = BTreeMap<i128, i128>;

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) valid: bool,
    pub(crate) sides: [Side; 2],
    last: i64,
    waiting: Vec<Value>,
    asked: bool,
}

/// A client of one venue with its books.
#[derive(Debug)]
pub(crate) struct Reader {
    venue: &'static str,
    symbols: Vec<String>,
    pub(crate) books: BTreeMap<String, Book>,
    pub(crate) gaps: u32,
    pub(crate) malformed: u32,
    pub(crate) snapshots: u32,
    pub(crate) trades: u32,
    /// Acknowledgements and signs of life, by name.
    pub(crate) heard: BTreeMap<String, u32>,
    sequence: i64,
}

/// A decimal number, a string or not, as a count of 10^-8.
pub(crate) fn number(value: &Value) -> i128 {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    assert!(fraction.len() <= 8, "{text}");
    let fraction: i128 = format!("{fraction:0<8}").parse().unwrap();
    whole.parse::<i128>().unwrap() * 100_000_000 + fraction
}

fn int(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap()
}

/// Levels of `[["price","qty",...],...]` or `[{"price":..,"qty":..},...]`.
fn levels(list: &Value) -> impl Iterator<Item = (i128, i128)> {
    list.as_array().unwrap().iter().map(|it| match it.get("price") {
        Some(price) => (number(price), number(&it["qty"])),
        None => (number(&it[0]), number(&it[1])),
    })
}

impl Book {
    fn set(&mut self, side: usize, (price, qty): (i128, i128)) {
        if qty == 0 {
            self.sides[side].remove(&price);
        } else {
            self.sides[side].insert(price, qty);
        }
    }

    fn load(&mut self, bids: &Value, asks: &Value) {
        self.sides = [levels(bids).collect(), levels(asks).collect()];
        (self.valid, self.asked) = (true, false);
    }

    fn apply(&mut self, bids: &Value, asks: &Value) {
        levels(bids).for_each(|it| self.set(0, it));
        levels(asks).for_each(|it| self.set(1, it));
    }

    fn lose(&mut self) {
        *self = Self::default();
    }
}

/// The checksum of the field's classic, bit by bit.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

impl Reader {
    pub(crate) fn new(venue: &'static str, symbols: &[String]) -> Self {
        let books = symbols.iter().map(|it| (it.clone(), Book::default())).collect();
        Self {
            venue,
            symbols: symbols.to_vec(),
            books,
            gaps: 0,
            malformed: 0,
            snapshots: 0,
            trades: 0,
            heard: BTreeMap::new(),
            sequence: -1,
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.books.values().all(|it| it.valid)
    }

    /// Path and query behind the venue's address.
    pub(crate) fn target(&self, token: &str) -> String {
        match self.venue {
            "binance" => "/stream".to_owned(),
            "okx" => "/ws/v5/public".to_owned(),
            "coinbase" => "/".to_owned(),
            "kraken" => "/v2".to_owned(),
            _ => format!("/endpoint?token={token}&connectId=c"),
        }
    }

    fn subscribe_book(&self, verb: &str, symbol: &str) -> String {
        match self.venue {
            "okx" => {
                format!(r#"{{"op":"{verb}","args":[{{"channel":"books","instId":"{symbol}"}}]}}"#)
            }
            "kraken" => format!(
                r#"{{"method":"{verb}","params":{{"channel":"book","symbol":["{symbol}"],"depth":10}}}}"#
            ),
            other => panic!("{other} does not resubscribe"),
        }
    }

    /// A fresh connection: nothing is known.
    pub(crate) fn open(&mut self) -> Vec<Wish> {
        self.sequence = -1;
        for book in self.books.values_mut() {
            book.lose();
        }
        let list = self.symbols.join("\",\"");
        let texts = match self.venue {
            "binance" => {
                let names = self.symbols.iter().map(|it| it.to_lowercase());
                let names: Vec<String> = names
                    .flat_map(|it| [format!("{it}@trade"), format!("{it}@depth@100ms")])
                    .collect();
                let names = names.join("\",\"");
                vec![format!(r#"{{"method":"SUBSCRIBE","params":["{names}"],"id":1}}"#)]
            }
            "okx" => {
                let trades = self.symbols.iter().map(|it| {
                    format!(
                        r#"{{"op":"subscribe","args":[{{"channel":"trades","instId":"{it}"}}]}}"#
                    )
                });
                let books = self.symbols.iter().map(|it| self.subscribe_book("subscribe", it));
                trades.chain(books).collect()
            }
            "coinbase" => ["heartbeats", "level2", "market_trades"]
                .map(|it| {
                    format!(r#"{{"type":"subscribe","product_ids":["{list}"],"channel":"{it}"}}"#)
                })
                .to_vec(),
            "kraken" => {
                let trades = format!(
                    r#"{{"method":"subscribe","params":{{"channel":"trade","symbol":["{list}"]}}}}"#
                );
                let books = self.symbols.iter().map(|it| self.subscribe_book("subscribe", it));
                books.chain([trades]).collect()
            }
            _ => ["level2", "match"]
                .map(|it| {
                    let list = self.symbols.join(",");
                    format!(
                        r#"{{"id":1,"type":"subscribe","topic":"/market/{it}:{list}","response":true}}"#
                    )
                })
                .to_vec(),
        };
        texts.into_iter().map(Wish::Send).collect()
    }

    pub(crate) fn text(&mut self, text: &str) -> Vec<Wish> {
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            self.malformed += 1;
            return vec![Wish::Reconnect]; // what was in it is lost
        };
        match self.venue {
            "binance" => self.binance(&value),
            "okx" => self.okx(&value),
            "coinbase" => self.coinbase(&value),
            "kraken" => self.kraken(&value),
            _ => self.kucoin(&value),
        }
    }

    fn hear(&mut self, name: &str) -> Vec<Wish> {
        *self.heard.entry(name.to_owned()).or_default() += 1;
        Vec::new()
    }

    fn binance(&mut self, frame: &Value) -> Vec<Wish> {
        if frame.get("result").is_some() {
            return self.hear("ack");
        }
        let data = frame["data"].clone();
        match data["e"].as_str() {
            Some("trade") => {
                self.trades += 1;
                Vec::new()
            }
            Some("serverShutdown") => self.hear("serverShutdown"),
            Some("depthUpdate") => self.buffered(data["s"].as_str().unwrap(), &data),
            other => panic!("{other:?}"),
        }
    }

    fn kucoin(&mut self, frame: &Value) -> Vec<Wish> {
        match frame["type"].as_str().unwrap() {
            "message" if frame["subject"] == "trade.l3match" => {
                self.trades += 1;
                Vec::new()
            }
            "message" => {
                let data = frame["data"].clone();
                self.buffered(data["symbol"].as_str().unwrap(), &data)
            }
            kind => self.hear(&kind.to_owned()),
        }
    }

    /// The two venues whose snapshot comes over REST.
    fn buffered(&mut self, symbol: &str, data: &Value) -> Vec<Wish> {
        let book = self.books.get_mut(symbol).unwrap();
        if book.valid {
            if !book.follow(data) {
                self.gaps += 1;
                book.lose();
            } else {
                return Vec::new();
            }
        }
        book.waiting.push(data.clone());
        if std::mem::replace(&mut book.asked, true) {
            return Vec::new();
        }
        vec![self.get(symbol)]
    }

    fn get(&self, symbol: &str) -> Wish {
        let target = match self.venue {
            "binance" => format!("/api/v3/depth?symbol={symbol}&limit=5000"),
            _ => format!("/api/v3/market/orderbook/level2?symbol={symbol}"),
        };
        Wish::Get { symbol: symbol.to_owned(), target }
    }

    /// The answer to [`Wish::Get`].
    pub(crate) fn rest(&mut self, symbol: &str, body: &str) -> Vec<Wish> {
        let body: Value = serde_json::from_str(body).unwrap();
        let (body, last) = match self.venue {
            "binance" => (&body, int(&body["lastUpdateId"])),
            _ => (&body["data"], int(&body["data"]["sequence"])),
        };
        let book = self.books.get_mut(symbol).unwrap();
        let waiting = std::mem::take(&mut book.waiting);
        let first = waiting.iter().map(|it| int(it.get("U").unwrap_or(&it["sequenceStart"]))).min();
        if first.is_none_or(|first| last < first - 1) {
            book.waiting = waiting;
            return vec![self.get(symbol)]; // too old
        }
        book.load(&body["bids"], &body["asks"]);
        book.last = last;
        self.snapshots += 1;
        for data in waiting {
            let end = int(data.get("u").unwrap_or(&data["sequenceEnd"]));
            if end > last && !book.follow(&data) {
                self.gaps += 1;
                book.lose();
                break;
            }
        }
        Vec::new()
    }

    fn okx(&mut self, frame: &Value) -> Vec<Wish> {
        if let Some(event) = frame["event"].as_str() {
            return self.hear(event);
        }
        if frame["arg"]["channel"] == "trades" {
            self.trades += 1;
            return Vec::new();
        }
        let (symbol, data) = (frame["arg"]["instId"].as_str().unwrap(), &frame["data"][0]);
        let book = self.books.get_mut(symbol).unwrap();
        let (before, seq) = (int(&data["prevSeqId"]), int(&data["seqId"]));
        if frame["action"] == "snapshot" {
            assert_eq!(before, -1);
            book.load(&data["bids"], &data["asks"]);
            self.snapshots += 1;
        } else if !book.valid {
            return Vec::new(); // on its way when we unsubscribed
        } else if before != book.last {
            self.gaps += 1;
            book.lose();
            let verbs = ["unsubscribe", "subscribe"];
            return verbs.map(|it| Wish::Send(self.subscribe_book(it, symbol))).into();
        } else {
            book.apply(&data["bids"], &data["asks"]);
        }
        book.last = seq;
        if before == seq {
            return self.hear("keepalive");
        }
        Vec::new()
    }

    fn coinbase(&mut self, frame: &Value) -> Vec<Wish> {
        let sequence = int(&frame["sequence_num"]);
        if sequence != self.sequence + 1 {
            self.gaps += 1;
            return vec![Wish::Reconnect];
        }
        self.sequence = sequence;
        let event = &frame["events"][0];
        match frame["channel"].as_str().unwrap() {
            "market_trades" => {
                let is_new = event["type"] == "update";
                let count = event["trades"].as_array().unwrap().len();
                self.trades += u32::try_from(count).unwrap() * u32::from(is_new);
            }
            "l2_data" => {
                let symbol = event["product_id"].as_str().unwrap();
                let book = self.books.get_mut(symbol).unwrap();
                if event["type"] == "snapshot" {
                    book.lose();
                    book.valid = true;
                    self.snapshots += 1;
                }
                for it in event["updates"].as_array().unwrap() {
                    let side = match it["side"].as_str().unwrap() {
                        "bid" => 0,
                        "offer" => 1,
                        other => panic!("{other}"),
                    };
                    book.set(side, (number(&it["price_level"]), number(&it["new_quantity"])));
                }
            }
            channel => return self.hear(&channel.to_owned()),
        }
        Vec::new()
    }

    fn kraken(&mut self, frame: &Value) -> Vec<Wish> {
        if let Some(method) = frame["method"].as_str() {
            assert_eq!(frame["success"], true, "{frame}");
            return self.hear(&method.to_owned());
        }
        let data = &frame["data"][0];
        match frame["channel"].as_str().unwrap() {
            "trade" => self.trades += u32::from(frame["type"] == "update"),
            "book" => {
                let symbol = data["symbol"].as_str().unwrap();
                let book = self.books.get_mut(symbol).unwrap();
                if frame["type"] == "snapshot" {
                    book.load(&data["bids"], &data["asks"]);
                    self.snapshots += 1;
                } else if !book.valid {
                    return Vec::new();
                } else {
                    book.apply(&data["bids"], &data["asks"]);
                }
                while book.sides[0].len() > 10 {
                    book.sides[0].pop_first();
                }
                while book.sides[1].len() > 10 {
                    book.sides[1].pop_last();
                }
                // Numbers have two or five decimals of price, eight of quantity.
                let price_unit = if symbol == "ETH/BTC" { 1_000 } else { 1_000_000 };
                let asks = book.sides[1].iter();
                let text: String = asks
                    .chain(book.sides[0].iter().rev())
                    .map(|(price, qty)| format!("{}{qty}", price / price_unit))
                    .collect();
                if i64::from(crc32(text.as_bytes())) != int(&data["checksum"]) {
                    self.gaps += 1;
                    book.lose();
                    let verbs = ["unsubscribe", "subscribe"];
                    return verbs.map(|it| Wish::Send(self.subscribe_book(it, symbol))).into();
                }
            }
            channel => return self.hear(&channel.to_owned()),
        }
        Vec::new()
    }
}

impl Book {
    /// One update of Binance or KuCoin on a valid book; false where something is missing before it.
    fn follow(&mut self, data: &Value) -> bool {
        if data.get("U").is_some() {
            let (first, last) = (int(&data["U"]), int(&data["u"]));
            if last <= self.last {
                return true;
            }
            if first > self.last + 1 {
                return false;
            }
            self.apply(&data["b"], &data["a"]);
            self.last = last;
            return true;
        }
        let (start, end) = (int(&data["sequenceStart"]), int(&data["sequenceEnd"]));
        if start > self.last + 1 || end <= self.last {
            return false;
        }
        for (side, name) in ["bids", "asks"].into_iter().enumerate() {
            for record in data["changes"][name].as_array().unwrap() {
                if int(&record[2]) > self.last && number(&record[0]) != 0 {
                    self.set(side, (number(&record[0]), number(&record[1])));
                }
            }
        }
        self.last = end;
        true
    }
}
