//! Where to connect: the venue is asked for a token and says where it is valid.

use std::borrow::Cow;

use serde::Deserialize;

use crate::session::{Fault, NoAddress};

/// Where the token is asked for.
pub(super) const TOKEN_PATH: &str = "/api/v1/bullet-public";
/// The code of success.
const SUCCESS: &str = "200000";
/// Codes of an address that asked too often or is blocked for it, and how long that lasts in seconds.
const LIMITED: [(&str, u64); 2] = [("429000", 30), ("1015", 30)];
/// Shortest and longest intervals that are believed, in milliseconds.
const INTERVAL_MS: std::ops::RangeInclusive<u64> = 1_000..=120_000;

#[derive(Deserialize)]
struct Reply<'a> {
    code: &'a str,
    #[serde(borrow, default)]
    msg: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<Token<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    token: &'a str,
    #[serde(borrow)]
    instance_servers: Vec<Server<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Server<'a> {
    endpoint: &'a str,
    ping_interval: u64,
    ping_timeout: u64,
}

/// How the venue wants to be pinged, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pings {
    /// From one to the next.
    pub(super) interval_ns: u64,
    /// How long the answer may take beyond that.
    pub(super) timeout_ns: u64,
}

impl Default for Pings {
    /// What the venue has answered for years.
    fn default() -> Self {
        Self { interval_ns: 18_000_000_000, timeout_ns: 10_000_000_000 }
    }
}

/// Reads the venue's answer: the whole address, and how to ping there. `count` tells connections
/// of one session apart.
pub(super) fn read(body: &[u8], count: u64) -> Result<(String, Pings), NoAddress> {
    let reply: Reply<'_> =
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Fault::Shape,
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => Fault::NotJson,
        })?;
    if reply.code != SUCCESS {
        let limited = LIMITED.iter().find(|it| it.0 == reply.code);
        return Err(NoAddress::Refused {
            words: format!("code {}: {}", reply.code, reply.msg),
            retry_after_s: limited.map_or(0, |it| it.1),
        });
    }
    let token = reply.data.ok_or(Fault::Shape)?;
    let server = token.instance_servers.first().ok_or(Fault::Shape)?;
    // Both become part of an address: nothing in them may begin another part of it.
    let plain = |text: &str| {
        let is_plain = |it: u8| it.is_ascii_graphic() && !b"?#&\"<>\\".contains(&it);
        !text.is_empty() && text.bytes().all(is_plain)
    };
    let interval = [server.ping_interval, server.ping_timeout];
    if !plain(token.token) || !plain(server.endpoint) {
        return Err(Fault::Shape.into());
    }
    if !interval.iter().all(|it| INTERVAL_MS.contains(it)) {
        return Err(Fault::Time.into());
    }
    let pings = Pings {
        interval_ns: server.ping_interval * 1_000_000,
        timeout_ns: server.ping_timeout * 1_000_000,
    };
    let (endpoint, token) = (server.endpoint, token.token);
    Ok((format!("{endpoint}?token={token}&connectId=kairos{count}"), pings))
}
