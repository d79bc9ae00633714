//! A connection: address, secret, transport, settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kairos_edge::config::{Postgres, Tls};
use postgres::config::Host;
use postgres::{Client, NoTls};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{reject, transient};
use crate::sink::SinkError;

/// Connects and sets what must not depend on the server's defaults.
pub(super) fn connect(config: &Postgres) -> Result<Client, SinkError> {
    let mut address: postgres::Config =
        config.url.parse().map_err(|error| reject(format!("drain.postgres.url: {error}")))?;
    address
        .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .tcp_user_timeout(Duration::from_millis(config.statement_timeout_ms))
        .application_name("kairos-drain");
    if address.get_password().is_none()
        && let Some(secret) = password(&address)
    {
        address.password(secret);
    }
    let connected = match tls_of(config, &address) {
        Tls::Off => address.ssl_mode(postgres::config::SslMode::Disable).connect(NoTls),
        Tls::VerifyFull => {
            let trust = client_config(config.ca_file.as_deref())?;
            address
                .ssl_mode(postgres::config::SslMode::Require)
                .connect(MakeRustlsConnect::new(trust))
        }
    };
    let mut client = connected.map_err(|error| transient("connect", &error))?;
    let settings = format!(
        "SET synchronous_commit = {}; SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = {}; SET search_path = {}, public; \
         SET timezone = 'UTC'; SET client_min_messages = warning",
        if config.synchronous_commit { "on" } else { "off" },
        config.statement_timeout_ms,
        config.statement_timeout_ms,
        config.statement_timeout_ms,
        config.schema,
    );
    client.batch_execute(&settings).map_err(|error| transient("set up the connection", &error))?;
    Ok(client)
}

/// In the clear on this machine only, unless the configuration says otherwise.
fn tls_of(config: &Postgres, address: &postgres::Config) -> Tls {
    let is_local = address.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
        }
    });
    config.tls.unwrap_or(if is_local { Tls::Off } else { Tls::VerifyFull })
}

/// Who is trusted: the authorities in a file, or those of the host.
///
/// # Errors
/// [`SinkError::Rejected`] where the file holds none.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, SinkError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let bad = |why: String| reject(format!("ca_file {}: {why}", path.display()));
            let found =
                CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(bad("no certificate in it".to_owned()));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| reject(format!("TLS: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A secret by its name: a systemd credential, else an environment variable.
pub(crate) fn secret(credential: &str, variable: &str) -> Option<String> {
    let file =
        std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join(credential));
    let stored = file.and_then(|file| fs::read_to_string(file).ok());
    let text = stored.or_else(|| std::env::var(variable).ok())?;
    Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|it| !it.is_empty())
}

/// Credential `postgres-password`, `PGPASSWORD`, then the password file of the user.
fn password(address: &postgres::Config) -> Option<String> {
    secret("postgres-password", "PGPASSWORD").or_else(|| {
        let file = std::env::var_os("PGPASSFILE")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass")))?;
        let text = fs::read_to_string(file).ok()?;
        let host = match address.get_hosts().first()? {
            Host::Tcp(name) => name.clone(),
            Host::Unix(_) => "localhost".to_owned(),
        };
        let port = address.get_ports().first().map_or_else(|| "5432".to_owned(), u16::to_string);
        let user = address.get_user()?;
        let database = address.get_dbname().unwrap_or(user);
        in_password_file(&text, [&host, &port, database, user])
    })
}

/// `host:port:database:user:password`, with `*` for anything and `\` before `:` and `\`.
fn in_password_file(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = vec![String::new()];
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            let count = fields.len();
            match (character, fields.last_mut()?) {
                ('\\', last) => last.extend(characters.next()),
                (':', _) if count < 5 => fields.push(String::new()),
                (other, last) => last.push(other),
            }
        }
        let [pattern @ .., secret] = fields.as_slice() else { return None };
        let fits = pattern.len() == 4
            && pattern.iter().zip(wanted).all(|(it, want)| it == "*" || it == want);
        fits.then(|| secret.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::in_password_file;

    #[test]
    fn the_first_line_of_the_password_file_that_fits_holds() {
        let text = "# comment\nother:5432:k:u:no\n*:5432:k:u:p\\:a\\\\ss:x\n*:*:*:*:late\n";
        let find =
            |host, port, database, user| in_password_file(text, [host, port, database, user]);
        assert_eq!(find("h", "5432", "k", "u").as_deref(), Some("p:a\\ss:x"));
        assert_eq!(find("h", "5433", "k", "u").as_deref(), Some("late"));
        assert_eq!(in_password_file("a:b:c\n", ["a", "b", "c", "d"]), None);
    }
}
