//! What goes wrong, when, and to whom: a seeded schedule without a clock.
//!
//! ```text
//! kind[=argument][@every-ms][:count]
//! ```
//!
//! Without `@` a fault comes once, a second after the gateway's first; with it, every so many
//! milliseconds. `:count` limits how often, `:all` lifts the limit. A fault that finds no client waits
//! for one.

use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;

use kairos_logic::units::Nanos;

use super::random::Random;
use super::venue::{Class, Response};

const MS: u64 = 1_000_000;
/// When a fault without `@` comes.
const FIRST_AFTER: u64 = 1_000 * MS;

/// What a fault specification may say, for `--help`.
pub const HELP: &str = "Faults: kind[=argument][@every-ms][:count|:all]; without @ once, after 1 s
  drop|duplicate|reorder|corrupt|flip[=book|trade|quote|any]
                       the next message of that class (book): lost, twice, after the next one,
                       no JSON any more, with one digit changed
  cut                  part of a frame, then the end of the connection
  stall[=MS]           nothing comes for so long, and what would have come is lost (for ever)
  close[=CODE]         a close frame (1001)
  huge[=MIB]           a text frame of so many MiB of zeros (16)
  refuse[=MS]          connections are refused for so long (1000)
  slow[=MS]            the next handshake is held up (3000)
  certificate=name|expired|unknown
                       the next TLS handshake shows a certificate of another host, an expired one,
                       one of another CA
  handshake=STATUS     the next WebSocket handshake is answered so: 429, 503, ...
  rest=STATUS          the next request is answered so: 418, 429, 503, ...
  age=SECONDS          every connection is cut at that age, announced where the venue does";

/// Which messages a fault may befall; `None` is all of market data.
pub type Target = Option<Class>;

/// What befalls a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// It is lost.
    Drop(Target),
    /// It comes twice.
    Duplicate(Target),
    /// The next one overtakes it.
    Reorder(Target),
    /// It is no JSON any more.
    Corrupt(Target),
    /// One digit is another.
    Flip(Target),
    /// It comes in part, and nothing after it.
    Cut,
}

impl Harm {
    /// Whether it befalls messages of this class.
    #[must_use]
    pub fn befalls(self, class: Class) -> bool {
        match self {
            Self::Drop(target)
            | Self::Duplicate(target)
            | Self::Reorder(target)
            | Self::Corrupt(target)
            | Self::Flip(target) => target.map_or(class != Class::Control, |it| it == class),
            Self::Cut => class != Class::Control,
        }
    }

    /// Its name in specifications.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop(_) => "drop",
            Self::Duplicate(_) => "duplicate",
            Self::Reorder(_) => "reorder",
            Self::Corrupt(_) => "corrupt",
            Self::Flip(_) => "flip",
            Self::Cut => "cut",
        }
    }
}

/// Which certificate a TLS client sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certificate {
    /// One that it can trust, if it trusts the test CA.
    #[default]
    Good,
    /// One of another host.
    WrongName,
    /// One that has expired.
    Expired,
    /// One of a CA that nobody knows.
    UnknownCa,
}

/// What befalls a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// One of its messages.
    Harm(Harm),
    /// Silence for so many nanoseconds.
    Stall(u64),
    /// The end, with this code.
    Close(u16),
    /// A frame of so many bytes.
    Huge(usize),
}

/// What befalls somebody who connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// The connection is refused.
    pub refused: bool,
    /// The handshake begins so many nanoseconds late.
    pub slow_ns: u64,
    /// What a TLS client sees.
    pub certificate: Certificate,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On an open connection.
    Blow(Blow),
    /// Nobody gets in for so many nanoseconds.
    Refuse(u64),
    /// The next handshake takes so many nanoseconds.
    Slow(u64),
    /// The next TLS handshake shows this one.
    Certificate(Certificate),
    /// The next WebSocket handshake gets this status.
    Handshake(u16),
    /// The next request gets this status.
    Rest(u16),
    /// Every connection ends at this age in nanoseconds.
    Age(u64),
}

/// A fault and when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Nanoseconds until the first and between two.
    pub every_ns: u64,
    /// How often; `None` without end.
    pub count: Option<u64>,
}

/// A specification that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{spec:?}: {part:?}: {rule}")]
pub struct FaultError {
    /// The whole specification.
    pub spec: String,
    /// The part that is wrong.
    pub part: String,
    /// What it must be.
    pub rule: &'static str,
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(spec: &str) -> Result<Self, FaultError> {
        let wrong = |part: &str, rule: &'static str| FaultError {
            spec: spec.to_owned(),
            part: part.to_owned(),
            rule,
        };
        let (rest, count) = match spec.rsplit_once(':') {
            Some((rest, count)) => (rest, Some(count)),
            None => (spec, None),
        };
        let (what, every) = match rest.split_once('@') {
            Some((what, every)) => (what, Some(every)),
            None => (rest, None),
        };
        let (name, argument) = match what.split_once('=') {
            Some((name, argument)) => (name, Some(argument)),
            None => (what, None),
        };
        let whole = |text: &str, least: u64, most: u64, rule| match text.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            Ok(_) | Err(_) => Err(wrong(text, rule)),
        };
        let ms = |default: u64| match argument {
            Some(text) => whole(text, 1, 86_400_000, "milliseconds are 1 to 86400000"),
            None => Ok(default),
        };
        let status = || {
            let rule = "an HTTP status is 400 to 599";
            whole(argument.unwrap_or(""), 400, 599, rule)
                .map(|it| u16::try_from(it).unwrap_or(u16::MAX))
        };
        let target = || match argument {
            None | Some("book") => Ok(Some(Class::Book)),
            Some("trade") => Ok(Some(Class::Trade)),
            Some("quote") => Ok(Some(Class::Quote)),
            Some("any") => Ok(None),
            Some(other) => Err(wrong(other, "messages are book, trade, quote, any")),
        };
        let harm = |harm| Kind::Blow(Blow::Harm(harm));
        let kind = match name {
            "drop" => harm(Harm::Drop(target()?)),
            "duplicate" => harm(Harm::Duplicate(target()?)),
            "reorder" => harm(Harm::Reorder(target()?)),
            "corrupt" => harm(Harm::Corrupt(target()?)),
            "flip" => harm(Harm::Flip(target()?)),
            "cut" if argument.is_none() => harm(Harm::Cut),
            "cut" => return Err(wrong(what, "cut has no argument")),
            "stall" => Kind::Blow(Blow::Stall(ms(u64::MAX / MS)?.saturating_mul(MS))),
            "close" => {
                let rule = "a close code is 1000 to 4999";
                let code = whole(argument.unwrap_or("1001"), 1_000, 4_999, rule)?;
                Kind::Blow(Blow::Close(u16::try_from(code).unwrap_or(1_001)))
            }
            "huge" => {
                let mib = whole(argument.unwrap_or("16"), 1, 256, "MiB are 1 to 256")?;
                Kind::Blow(Blow::Huge(usize::try_from(mib << 20).unwrap_or(1 << 24)))
            }
            "refuse" => Kind::Refuse(ms(1_000)?.saturating_mul(MS)),
            "slow" => Kind::Slow(ms(3_000)?.saturating_mul(MS)),
            "certificate" => Kind::Certificate(match argument {
                Some("name") => Certificate::WrongName,
                Some("expired") => Certificate::Expired,
                Some("unknown") => Certificate::UnknownCa,
                Some(other) => return Err(wrong(other, "certificates are name, expired, unknown")),
                None => return Err(wrong(what, "certificate=name, =expired or =unknown")),
            }),
            "handshake" => Kind::Handshake(status()?),
            "rest" => Kind::Rest(status()?),
            "age" => {
                let seconds = argument.unwrap_or("");
                let seconds = whole(seconds, 1, 86_400, "an age is 1 to 86400 seconds")?;
                Kind::Age(seconds * 1_000 * MS)
            }
            other => {
                let rule = "faults are drop, duplicate, reorder, corrupt, flip, cut, stall, close, \
                            huge, refuse, slow, certificate, handshake, rest, age";
                return Err(wrong(other, rule));
            }
        };
        let every_ns = match every {
            Some(text) => whole(text, 1, 86_400_000, "milliseconds are 1 to 86400000")? * MS,
            // What waits for a visitor waits from the beginning.
            None => match kind {
                Kind::Blow(_) | Kind::Refuse(_) => FIRST_AFTER,
                Kind::Slow(_)
                | Kind::Certificate(_)
                | Kind::Handshake(_)
                | Kind::Rest(_)
                | Kind::Age(_) => 0,
            },
        };
        let count = match count {
            Some("all") => None,
            Some(text) => Some(whole(text, 1, u64::MAX, "a count is positive, or all")?),
            None if every.is_some() => None,
            None => Some(1),
        };
        Ok(Self { kind, every_ns, count })
    }
}

/// A fault on its way.
#[derive(Clone, Debug)]
struct Plan {
    fault: Fault,
    left: Option<u64>,
    next: Option<Nanos>,
}

/// The schedule of a gateway.
#[derive(Clone, Debug)]
pub struct Faults {
    plans: Vec<Plan>,
    random: Random,
    blows: VecDeque<Blow>,
    slow: VecDeque<u64>,
    certificates: VecDeque<Certificate>,
    handshakes: VecDeque<u16>,
    requests: VecDeque<u16>,
    refused_until: Option<Nanos>,
    age: Option<u64>,
    done: BTreeMap<&'static str, u64>,
}

/// Most faults of a kind that wait for somebody to befall.
const WAITING_MAX: usize = 16;

impl Faults {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::new(0, &[])
    }

    /// These go wrong; the seed decides to whom and how.
    #[must_use]
    pub fn new(seed: u64, faults: &[Fault]) -> Self {
        let age = faults.iter().find_map(|it| match it.kind {
            Kind::Age(ns) => Some(ns),
            Kind::Blow(_)
            | Kind::Refuse(_)
            | Kind::Slow(_)
            | Kind::Certificate(_)
            | Kind::Handshake(_)
            | Kind::Rest(_) => None,
        });
        let plans = faults.iter().map(|&fault| Plan { fault, left: fault.count, next: None });
        Self {
            plans: plans.collect(),
            random: Random::fork(seed, 0xfa17),
            blows: VecDeque::new(),
            slow: VecDeque::new(),
            certificates: VecDeque::new(),
            handshakes: VecDeque::new(),
            requests: VecDeque::new(),
            refused_until: None,
            age,
            done: BTreeMap::new(),
        }
    }

    /// How often each kind befell somebody.
    #[must_use]
    pub const fn done(&self) -> &BTreeMap<&'static str, u64> {
        &self.done
    }

    pub(super) fn count(&mut self, name: &'static str) {
        *self.done.entry(name).or_default() += 1;
    }

    /// Lets time pass: arms what is due.
    pub fn pass(&mut self, at: Nanos) {
        for index in 0..self.plans.len() {
            let Some(plan) = self.plans.get_mut(index) else {
                return;
            };
            // Without a period all come at once, each waiting for its visitor.
            while plan.left != Some(0) {
                let next = *plan.next.get_or_insert(at.plus(plan.fault.every_ns));
                if at < next {
                    break;
                }
                let full = match plan.fault.kind {
                    Kind::Blow(_) => self.blows.len() >= WAITING_MAX,
                    Kind::Slow(_) => self.slow.len() >= WAITING_MAX,
                    Kind::Certificate(_) => self.certificates.len() >= WAITING_MAX,
                    Kind::Handshake(_) => self.handshakes.len() >= WAITING_MAX,
                    Kind::Rest(_) => self.requests.len() >= WAITING_MAX,
                    Kind::Refuse(_) | Kind::Age(_) => false,
                };
                if full {
                    break;
                }
                plan.left = plan.left.map(|it| it - 1);
                plan.next = Some(next.plus(plan.fault.every_ns));
                match plan.fault.kind {
                    Kind::Blow(blow) => self.blows.push_back(blow),
                    Kind::Refuse(ns) => {
                        self.refused_until = Some(at.plus(ns));
                        *self.done.entry("refuse").or_default() += 1;
                    }
                    Kind::Slow(ns) => self.slow.push_back(ns),
                    Kind::Certificate(which) => self.certificates.push_back(which),
                    Kind::Handshake(status) => self.handshakes.push_back(status),
                    Kind::Rest(status) => self.requests.push_back(status),
                    Kind::Age(_) => plan.left = Some(0),
                }
            }
        }
        self.refused_until = self.refused_until.filter(|until| at < *until);
    }

    /// Until when nobody gets in.
    #[must_use]
    pub const fn refuses_until(&self) -> Option<Nanos> {
        self.refused_until
    }

    /// The age at which connections end, in nanoseconds.
    #[must_use]
    pub const fn age(&self) -> Option<u64> {
        self.age
    }

    /// What befalls the visitor that comes now.
    pub fn knock(&mut self, at: Nanos) -> Door {
        let refused = self.refused_until.is_some_and(|until| at < until);
        if refused {
            return Door { refused, ..Door::default() };
        }
        let (slow, certificate) = (self.slow.pop_front(), self.certificates.pop_front());
        if slow.is_some() {
            self.count("slow");
        }
        if certificate.is_some() {
            self.count("certificate");
        }
        let (slow_ns, certificate) = (slow.unwrap_or(0), certificate.unwrap_or_default());
        Door { refused, slow_ns, certificate }
    }

    /// What answers the WebSocket handshake that comes now, if it is to fail.
    pub fn handshake(&mut self) -> Option<Response> {
        let status = self.handshakes.pop_front()?;
        self.count("handshake");
        Some(refusal(status))
    }

    /// What answers the request that comes now, if it is to fail.
    pub fn request(&mut self) -> Option<Response> {
        let status = self.requests.pop_front()?;
        self.count("rest");
        Some(refusal(status))
    }

    /// The next blow that is due, and which of these connections it hits; it waits where there is
    /// none.
    pub fn strike(&mut self, open: &[u64]) -> Option<(u64, Blow)> {
        let most = u64::try_from(open.len().checked_sub(1)?).ok()?;
        let blow = self.blows.pop_front()?;
        let index = usize::try_from(self.random.up_to(most)).ok()?;
        Some((*open.get(index)?, blow))
    }

    /// The text, cut off or with a character that JSON has not there.
    pub fn corrupt(&mut self, text: &str) -> String {
        let most = u64::try_from(text.len().saturating_sub(2)).unwrap_or(0);
        if self.random.up_to(1) == 0 {
            let mut end = 1 + usize::try_from(self.random.up_to(most)).unwrap_or(0);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            return text.get(..end).unwrap_or("").to_owned();
        }
        let marks: Vec<usize> =
            text.match_indices(['{', '}', '[', ']', '"', ':']).map(|it| it.0).collect();
        let last = u64::try_from(marks.len().saturating_sub(1)).unwrap_or(0);
        let index = usize::try_from(self.random.up_to(last)).unwrap_or(0);
        let Some((before, after)) = marks.get(index).and_then(|&at| text.split_at_checked(at))
        else {
            return "#".to_owned();
        };
        format!("{before}#{}", after.get(1..).unwrap_or(""))
    }

    /// The text with one digit of its second half changed: prices and quantities stand there.
    pub fn flip(&mut self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let half = bytes.len() / 2;
        let places: Vec<usize> =
            (half..bytes.len()).filter(|&it| bytes[it].is_ascii_digit()).collect();
        let last = u64::try_from(places.len().saturating_sub(1)).unwrap_or(0);
        let index = usize::try_from(self.random.up_to(last)).unwrap_or(0);
        if let Some(byte) = places.get(index).and_then(|&it| bytes.get_mut(it)) {
            // No zero: JSON has none in front.
            *byte = if *byte == b'9' { b'1' } else { *byte + 1 };
        }
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// An answer that is no good.
fn refusal(status: u16) -> Response {
    let body = match status {
        418 => r#"{"code":-1003,"msg":"Way too much request weight used; IP banned."}"#,
        429 => r#"{"code":-1003,"msg":"Too many requests."}"#,
        _ => r#"{"code":-1,"msg":"fault"}"#,
    };
    let retry_after = matches!(status, 418 | 429 | 503).then_some(2);
    Response { status, retry_after, body: body.to_owned() }
}
