//! A venue's public gateway, sans-io: the market or a recording behind it, every connection to it,
//! and the faults that befall them.
//!
//! Time is a parameter and goes forward. Whoever owns the sockets, or a simulation that has none,
//! passes on what clients do, calls [`Gateway::advance`] when [`Gateway::next_at`] has come, and
//! carries out the [`Action`]s in their order. The same calls give the same actions.
//!
//! The market stands still while nobody is subscribed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kairos_logic::units::Nanos;

use super::faults::{Blow, Door, Faults, Harm};
use super::market::{Market, MarketOptions};
use super::server::Pace;
use super::tape::{Recorded, Tape};
use super::venue::{
    Class, Listed, Protocol, Request, Response, Say, Scene, ServerProtocol, TICK_NS,
};
use crate::capture::symbol_of;

/// What a gateway is made of.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// Whose protocol it speaks.
    pub protocol: Protocol,
    /// The market behind it.
    pub market: MarketOptions,
    /// How fast its time runs.
    pub pace: Pace,
    /// When the market's own time is zero; `None` lets the market begin when its first subscriber
    /// comes.
    pub epoch: Option<Nanos>,
    /// Steps after which the market falls silent; `None` is never.
    pub steps_max: Option<u64>,
    /// Time between two pings, in nanoseconds, where the venue pings.
    pub ping_every_ns: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// A recording to play instead of the market.
    pub tape: Option<Arc<Tape>>,
    /// What happens at its end.
    pub at_end: AtEnd,
}

/// What happens to a connection at the end of the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtEnd {
    /// It stays open, and nothing more comes but signs of life.
    #[default]
    Stay,
    /// It is closed with code 1000.
    Close,
    /// The recording begins again on it. Books that have a snapshot in band start over; on Binance and
    /// KuCoin the update numbers step back, which a client must notice.
    Loop,
}

impl GatewayOptions {
    /// The seeded market of this venue in real time, without faults.
    #[must_use]
    pub fn seeded(protocol: Protocol, seed: u64) -> Self {
        let quote = protocol.quote().to_owned();
        Self {
            protocol,
            market: MarketOptions { seed, quote, ..MarketOptions::default() },
            pace: Pace::Clock(1.0),
            epoch: None,
            steps_max: None,
            ping_every_ns: 20_000_000_000,
            faults: Faults::none(),
            tape: None,
            at_end: AtEnd::default(),
        }
    }
}

/// What is to be done on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this text.
    Text(String),
    /// Send a ping with this payload.
    Ping(Vec<u8>),
    /// Send a close frame and end the connection.
    Close {
        /// Status code.
        code: u16,
        /// Reason.
        reason: &'static str,
    },
    /// Send a part of this text's frame, and nothing more: cut the connection.
    CutIn(String),
}

/// One connection.
struct Client {
    side: Box<dyn ServerProtocol>,
    /// Faults that wait for the message that they befall.
    harms: Vec<Harm>,
    /// A message that the next one of its kind overtakes.
    held: Option<(Class, String)>,
    /// Nothing reaches it until then.
    silent_until: Option<Nanos>,
    /// When it is told that it will be cut, and when it is.
    last_call: Option<Nanos>,
    cut_at: Option<Nanos>,
    /// Where it is in the recording.
    play: Play,
    over: bool,
}

/// A client's place in the recording, which begins with its first subscription.
#[derive(Clone, Copy, Default)]
struct Play {
    began: Option<Nanos>,
    /// Messages that have had their turn.
    position: usize,
}

impl Play {
    /// When the next message is due; `None` where there is none, or nobody to hear it.
    fn due(&self, tape: &Tape, pace: Pace) -> Option<Nanos> {
        let frame = tape.frames().get(self.position)?;
        let began = self.began?;
        let wait = pace.wait(frame.due_ns, u64::try_from(self.position).unwrap_or(u64::MAX));
        let wait = wait.map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX));
        Some(began.plus(wait))
    }
}

/// When the market was at which of its steps: what the pace counts from.
#[derive(Clone, Copy)]
struct Anchor {
    at: Nanos,
    due_ns: u64,
    steps: u64,
}

/// The gateway.
pub struct Gateway {
    options: GatewayOptions,
    market: Market,
    listed: Vec<Listed>,
    ws_url: String,
    epoch: Nanos,
    anchor: Option<Anchor>,
    steps: u64,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    next_tick: Nanos,
    faults: Faults,
    actions: VecDeque<(u64, Action)>,
}

impl Gateway {
    /// A gateway whose WebSocket is reached at `ws_url`.
    #[must_use]
    pub fn new(options: GatewayOptions, ws_url: String) -> Self {
        let market = Market::new(&options.market);
        let protocol = options.protocol;
        let seeded = market.pairs().iter().map(|pair| Listed {
            symbol: protocol.symbol(&pair.shape.base, &pair.shape.quote),
            shape: pair.shape.clone(),
        });
        let recorded = options.tape.as_ref().map(|tape| tape.listed().to_vec());
        Self {
            listed: recorded.unwrap_or_else(|| seeded.collect()),
            ws_url,
            epoch: options.epoch.unwrap_or_default(),
            anchor: None,
            steps: 0,
            clients: BTreeMap::new(),
            next_client: 1,
            next_tick: Nanos(0),
            faults: options.faults.clone(),
            actions: VecDeque::new(),
            market,
            options,
        }
    }

    /// The symbols that it trades, as the venue writes them.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.listed.iter().map(|it| it.symbol.as_str())
    }

    /// The market behind it.
    #[must_use]
    pub const fn market(&self) -> &Market {
        &self.market
    }

    /// Steps of the market that were played.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Faults that befell somebody, by kind.
    #[must_use]
    pub const fn done(&self) -> &BTreeMap<&'static str, u64> {
        self.faults.done()
    }

    /// Somebody connects: what happens to him before he can say anything.
    pub fn knock(&mut self, at: Nanos) -> Door {
        self.faults.pass(at);
        self.faults.knock(at)
    }

    /// Until when connections are refused, if they are.
    #[must_use]
    pub const fn refuses_until(&self) -> Option<Nanos> {
        self.faults.refuses_until()
    }

    /// Whether a WebSocket may be opened.
    ///
    /// # Errors
    /// The answer instead.
    pub fn admit(&mut self, at: Nanos, request: &Request) -> Result<(), Response> {
        if !self.options.protocol.opens(&request.path) {
            return Err(Response::new(404, String::new()));
        }
        self.faults.pass(at);
        self.faults.handshake().map_or(Ok(()), Err)
    }

    /// A WebSocket was opened. The number names it from now on.
    pub fn open(&mut self, at: Nanos, request: &Request) -> u64 {
        let id = self.next_client;
        self.next_client += 1;
        let side = self.options.protocol.connection(id, self.options.ping_every_ns);
        let (last_call, cut_at) = match self.faults.age() {
            Some(age) => {
                (Some(at.plus(age - age.min(10_000_000_000).min(age / 2))), Some(at.plus(age)))
            }
            None => (None, None),
        };
        let client = Client {
            side,
            harms: Vec::new(),
            held: None,
            silent_until: None,
            last_call,
            cut_at,
            play: Play::default(),
            over: false,
        };
        self.clients.insert(id, client);
        self.speak(at, id, |side, scene, out| side.on_open(scene, request, out));
        id
    }

    /// A client sent a text.
    pub fn text(&mut self, at: Nanos, id: u64, text: &str) {
        self.speak(at, id, |side, scene, out| side.on_text(scene, text, out));
    }

    /// A client sent a ping frame, or a pong frame with this payload.
    pub fn control(&mut self, at: Nanos, id: u64, pong: Option<&[u8]>) {
        self.speak(at, id, |side, scene, out| side.on_control(scene, pong, out));
    }

    /// Whether nothing may reach this client now: not even what answers by itself.
    #[must_use]
    pub fn is_silent(&self, at: Nanos, id: u64) -> bool {
        let client = self.clients.get(&id);
        client.and_then(|it| it.silent_until).is_some_and(|until| at < until)
    }

    /// A connection is gone.
    pub fn closed(&mut self, id: u64) {
        self.clients.remove(&id);
        self.actions.retain(|it| it.0 != id);
    }

    /// The answer to a request that opens no WebSocket.
    pub fn answer(&mut self, at: Nanos, request: &Request) -> Response {
        self.faults.pass(at);
        if let Some(refusal) = self.faults.request() {
            return refusal;
        }
        // A market whose beginning was given has its own idea of the time.
        let own = self.options.epoch.map(|epoch| epoch.plus(self.market.now_ns()));
        let target = match request.query.as_str() {
            "" => request.path.clone(),
            query => format!("{}?{query}", request.path),
        };
        if let Some(body) = self.options.tape.as_ref().and_then(|tape| tape.reply(&target)) {
            return Response::new(200, body.to_owned());
        }
        let mut scene = self.scene(own.unwrap_or(at));
        if let Some(tape) = &self.options.tape {
            scene.tape = Some((tape, self.position_of(symbol_of(&target).unwrap_or(""))));
        }
        let answer = self.options.protocol.answer(&scene, request);
        answer.unwrap_or_else(|| Response::new(404, String::new()))
    }

    /// How far the newest client has come that listens to this symbol: the one that asks, most
    /// likely.
    fn position_of(&self, symbol: &str) -> usize {
        let lower = symbol.to_ascii_lowercase();
        let listens = |client: &&Client| {
            let mut topics = client.side.subscriptions().iter();
            topics.any(|it| it.contains(symbol) || it.contains(&lower))
        };
        self.clients.values().rev().find(listens).map_or(0, |it| it.play.position)
    }

    /// What is to be done next; carried out in this order.
    pub fn act(&mut self) -> Option<(u64, Action)> {
        self.actions.pop_front()
    }

    /// Until when nothing happens by itself.
    pub fn next_at(&mut self) -> Nanos {
        let tick = self.next_tick;
        if let Some(tape) = &self.options.tape {
            let (pace, clients) = (self.options.pace, &self.clients);
            let due =
                clients.values().filter(|it| !it.over).filter_map(|it| it.play.due(tape, pace));
            return due.min().map_or(tick, |due| due.min(tick));
        }
        if !self.is_playing() {
            return tick;
        }
        self.due_at().map_or(Nanos(0), |due| due.min(tick))
    }

    /// Plays the recording to every client from its own place in it: at most so many messages each.
    fn play(&mut self, at: Nanos, tape: &Arc<Tape>, most: usize) {
        let ids: Vec<u64> = self.clients.keys().copied().collect();
        for id in ids {
            let Some(mut client) = self.clients.remove(&id) else {
                continue;
            };
            self.play_to(at, id, &mut client, tape, most);
            self.clients.insert(id, client);
        }
    }

    fn play_to(&mut self, at: Nanos, id: u64, client: &mut Client, tape: &Tape, most: usize) {
        let fresh = client.side.topics().take_fresh();
        if client.over || client.side.topics().is_empty() {
            return;
        }
        client.play.began.get_or_insert(at);
        // What a late subscription has missed comes first, so that its book has a beginning.
        let missed = tape.frames().iter().take(client.play.position);
        for frame in missed.filter(|it| fresh.contains(&it.topic)) {
            self.deliver_recorded(at, id, client, frame);
        }
        for _ in 0..most {
            if client.play.due(tape, self.options.pace).is_none_or(|due| due > at) {
                break;
            }
            if let Some(frame) = tape.frames().get(client.play.position) {
                client.play.position += 1;
                self.steps += 1;
                if client.side.topics().has(&frame.topic) {
                    self.deliver_recorded(at, id, client, frame);
                }
            }
        }
        if client.play.position >= tape.len() {
            match self.options.at_end {
                AtEnd::Stay => {}
                AtEnd::Close => {
                    let close = Say::Close { code: 1000, reason: "end of the recording" };
                    self.deliver(at, id, client, close);
                }
                AtEnd::Loop => client.play = Play { began: Some(at), position: 0 },
            }
        }
    }

    fn deliver_recorded(&mut self, at: Nanos, id: u64, client: &mut Client, frame: &Recorded) {
        let (class, text) = (frame.class, client.side.recorded(&frame.text));
        self.deliver(at, id, client, Say::Text { class, text });
    }

    /// Lets time pass: at most so many steps of the market, and what is due otherwise.
    pub fn advance(&mut self, at: Nanos, steps_max: usize) {
        if at >= self.next_tick {
            self.next_tick = at.plus(TICK_NS.min(self.options.ping_every_ns));
            self.tick(at);
        }
        if let Some(tape) = self.options.tape.clone() {
            return self.play(at, &tape, steps_max);
        }
        for _ in 0..steps_max {
            if !self.is_playing() {
                self.anchor = None; // it stands still, and goes on from here later
                return;
            }
            if self.due_at_from(at).is_some_and(|due| due > at) {
                return;
            }
            let Some(step) = self.market.next() else {
                return;
            };
            self.steps += 1;
            let ids: Vec<u64> = self.clients.keys().copied().collect();
            for id in ids {
                self.speak(at, id, |side, scene, out| side.on_step(scene, &step, out));
            }
        }
    }

    fn is_playing(&mut self) -> bool {
        let over = self.options.steps_max.is_some_and(|most| self.steps >= most);
        !over && self.clients.values_mut().any(|it| !it.over && !it.side.topics().is_empty())
    }

    /// When the next step is due; `None` is at once.
    fn due_at(&mut self) -> Option<Nanos> {
        let anchor = self.anchor?;
        let ahead_ns = self.market.next_due_ns().saturating_sub(anchor.due_ns);
        let wait = self.options.pace.wait(ahead_ns, self.steps - anchor.steps)?;
        Some(anchor.at.plus(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The same, counted from `at` where it stood still.
    fn due_at_from(&mut self, at: Nanos) -> Option<Nanos> {
        if self.anchor.is_none() {
            let due_ns = self.market.next_due_ns();
            self.anchor = Some(Anchor { at, due_ns, steps: self.steps });
            if self.options.epoch.is_none() {
                self.epoch = Nanos(at.0.saturating_sub(due_ns));
            }
        }
        self.due_at()
    }

    fn scene(&self, at: Nanos) -> Scene<'_> {
        Scene {
            at,
            epoch: self.epoch,
            listed: &self.listed,
            market: self.options.tape.is_none().then_some(&self.market),
            tape: self.options.tape.as_deref().map(|tape| (tape, 0)),
            ws_url: &self.ws_url,
            seed: self.options.market.seed,
        }
    }

    /// Lets one client's protocol speak and passes on what it says.
    fn speak(
        &mut self,
        at: Nanos,
        id: u64,
        speak: impl FnOnce(&mut dyn ServerProtocol, &Scene<'_>, &mut Vec<Say>),
    ) {
        let Some(mut client) = self.clients.remove(&id) else {
            return;
        };
        if !client.over {
            let mut said = Vec::new();
            speak(client.side.as_mut(), &self.scene(at), &mut said);
            for say in said {
                self.deliver(at, id, &mut client, say);
            }
        }
        self.clients.insert(id, client);
    }

    /// Passes one message on, or what a fault makes of it.
    fn deliver(&mut self, at: Nanos, id: u64, client: &mut Client, say: Say) {
        if client.over {
            return;
        }
        if client.silent_until.is_some_and(|until| at < until) {
            return;
        }
        let mut act = |action| self.actions.push_back((id, action));
        match say {
            Say::Ping(payload) => act(Action::Ping(payload)),
            Say::Close { code, reason } => {
                client.over = true;
                act(Action::Close { code, reason });
            }
            Say::Text { class, text } => {
                let befalls = client.harms.iter().position(|it| it.befalls(class));
                let harm = befalls.map(|index| client.harms.remove(index));
                if let Some(harm) = harm {
                    self.faults.count(harm.name());
                }
                match harm {
                    None => match client.held.take_if(|it| it.0 == class) {
                        Some((_, held)) => {
                            act(Action::Text(text));
                            act(Action::Text(held));
                        }
                        None => act(Action::Text(text)),
                    },
                    Some(Harm::Drop(_)) => {}
                    Some(Harm::Duplicate(_)) => {
                        act(Action::Text(text.clone()));
                        act(Action::Text(text));
                    }
                    Some(Harm::Reorder(_)) => {
                        if let Some((_, before)) = client.held.replace((class, text)) {
                            act(Action::Text(before));
                        }
                    }
                    Some(Harm::Corrupt(_)) => act(Action::Text(self.faults.corrupt(&text))),
                    Some(Harm::Flip(_)) => act(Action::Text(self.faults.flip(&text))),
                    Some(Harm::Cut) => {
                        client.over = true;
                        act(Action::CutIn(text));
                    }
                }
            }
        }
    }

    /// What happens by the clock: pings, heartbeats, announced ends, faults.
    fn tick(&mut self, at: Nanos) {
        let ids: Vec<u64> = self.clients.keys().copied().collect();
        for &id in &ids {
            self.speak(at, id, |side, scene, out| side.on_time(scene, out));
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            if client.last_call.take_if(|due| at >= *due).is_some() {
                self.speak(at, id, |side, scene, out| side.on_last_call(scene, out));
            }
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            if client.cut_at.take_if(|due| at >= *due).is_some() && !client.over {
                self.faults.count("age");
                client.over = true;
                self.actions.push_back((id, Action::Close { code: 1001, reason: "24 h" }));
            }
        }
        self.faults.pass(at);
        self.strike(at);
    }

    /// Lets the faults that are due find their clients; those that find none wait.
    fn strike(&mut self, at: Nanos) {
        let mut open: Vec<u64> = Vec::new();
        for (&id, client) in &mut self.clients {
            if !client.over && !client.side.topics().is_empty() {
                open.push(id);
            }
        }
        while let Some((victim, blow)) = self.faults.strike(&open) {
            let Some(client) = self.clients.get_mut(&victim) else {
                continue;
            };
            match blow {
                Blow::Harm(harm) => client.harms.push(harm),
                Blow::Stall(ns) => {
                    client.silent_until = Some(at.plus(ns));
                    self.faults.count("stall");
                }
                Blow::Close(code) => {
                    client.over = true;
                    open.retain(|it| *it != victim);
                    self.faults.count("close");
                    self.actions.push_back((victim, Action::Close { code, reason: "fault" }));
                }
                Blow::Huge(bytes) => {
                    self.faults.count("huge");
                    self.actions.push_back((victim, Action::Text("0".repeat(bytes))));
                }
            }
        }
    }
}
