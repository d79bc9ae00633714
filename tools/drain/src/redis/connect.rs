//! A connection to the server: address, secret, transport, and what its answers mean.

use std::time::Duration;

use kairos_edge::config::Redis;
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisError,
    TlsCertificates, Value,
};

use super::commands::Commands;
use crate::postgres::connect::secret;
use crate::sink::SinkError;

/// Connects, with a limit for every command, under a name that `CLIENT LIST` shows.
pub(super) fn connect(config: &Redis, name: &str) -> Result<Connection, SinkError> {
    let timeout = Duration::from_millis(config.timeout_ms);
    let client = client(config)?;
    let mut connection =
        client.get_connection_with_timeout(timeout).map_err(|error| failed("connect", &error))?;
    let limited = connection
        .set_read_timeout(Some(timeout))
        .and_then(|()| connection.set_write_timeout(Some(timeout)));
    limited.map_err(|error| failed("set a timeout", &error))?;
    let _: Value = redis::cmd("CLIENT")
        .arg("SETNAME")
        .arg(name)
        .query(&mut connection)
        .map_err(|error| failed("name the connection", &error))?;
    Ok(connection)
}

/// Sends everything at once and reads an answer to each command.
pub(super) fn exchange(
    connection: &mut Connection,
    commands: &Commands,
) -> Result<Vec<Value>, SinkError> {
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
pub(super) fn refused(error: &RedisError) -> SinkError {
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
pub(super) fn failed(what: &str, error: &RedisError) -> SinkError {
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
