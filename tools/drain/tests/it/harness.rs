//! Servers, databases of one's own, and the drain as a process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The secret that `dev-services` gives its PostgreSQL.
pub(crate) const SECRET: &str = "kairos-dev";

/// Where the servers are; `None` for one that cannot be had here.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    pub(crate) postgres: Option<String>,
    pub(crate) redis: Option<String>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dev-services")
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Servers of a test's own, which it may kill. They go when the test's process ends.
pub(crate) struct Own {
    dir: PathBuf,
    pg_port: u16,
    redis_port: u16,
    pub(crate) servers: Servers,
}

impl Own {
    pub(crate) fn start(what: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kairos-drain-test-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let mut this = Self {
            dir,
            pg_port: free_port(),
            redis_port: free_port(),
            servers: Servers::default(),
        };
        let mut up = vec!["up"];
        up.extend(what);
        let output = this.call(&up);
        if !output.status.success() {
            eprintln!("SKIP: no servers here: {}", String::from_utf8_lossy(&output.stderr).trim());
            // Where checks must not be passed over, this is set.
            assert!(std::env::var_os("KAIROS_TEST_MUST_HAVE_SERVERS").is_none(), "no servers");
        }
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            match line.split_once('=') {
                Some(("KAIROS_TEST_PG_URL", url)) => this.servers.postgres = Some(url.into()),
                Some(("KAIROS_TEST_REDIS_URL", url)) => this.servers.redis = Some(url.into()),
                _ => {}
            }
        }
        this
    }

    fn call(&self, arguments: &[&str]) -> Output {
        Command::new(script())
            .args(arguments)
            .env("KAIROS_DEV_DIR", &self.dir)
            .env("KAIROS_DEV_PG_PORT", self.pg_port.to_string())
            .env("KAIROS_DEV_REDIS_PORT", self.redis_port.to_string())
            .env("KAIROS_DEV_WATCH", std::process::id().to_string())
            .output()
            .unwrap()
    }

    fn must(&self, arguments: &[&str]) {
        let output = self.call(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Stops one as a power cut would.
    pub(crate) fn crash(&self, which: &str) {
        self.must(&["crash", which]);
    }

    pub(crate) fn start_again(&self, which: &str) {
        self.must(&["start", which]);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.call(&["down"]);
    }
}

/// The servers that tests share: those that the environment names, else ones started once.
pub(crate) fn servers() -> &'static Servers {
    static SHARED: OnceLock<(Servers, Option<Own>)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let postgres = named("KAIROS_TEST_PG_URL");
        let redis = named("KAIROS_TEST_REDIS_URL");
        if postgres.is_some() && redis.is_some() {
            return (Servers { postgres, redis }, None);
        }
        let mut own = Own::start(&["postgres", "redis"]);
        let servers = std::mem::take(&mut own.servers);
        (
            Servers { postgres: postgres.or(servers.postgres), redis: redis.or(servers.redis) },
            Some(own),
        )
    });
    &shared.0
}

/// Passwords of servers that the environment names, by host and port. The drain takes none in an address.
static SECRETS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// The address in a variable, without its password.
pub(crate) fn named(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|it| !it.is_empty())?;
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some((who, host)) = authority.rsplit_once('@') else { return Some(url) };
    let Some((user, secret)) = who.split_once(':') else { return Some(url) };
    SECRETS.lock().unwrap().insert(host.to_owned(), decoded(secret));
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    Some(format!("{scheme}://{user}{host}{path}"))
}

/// What `%41` and the like stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let hex = (*first == b'%').then(|| more.get(..2)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &more[2..] } else { more };
    }
    String::from_utf8(bytes).unwrap()
}

/// Host and port of an address.
pub(crate) fn host_of(url: &str) -> String {
    let rest = url.split_once("://").unwrap().1;
    let authority = rest.split('/').next().unwrap();
    authority.rsplit_once('@').map_or(authority, |it| it.1).to_owned()
}

fn secret_of(url: &str) -> Option<String> {
    SECRETS.lock().unwrap().get(&host_of(url)).cloned()
}

/// The password of a server of PostgreSQL.
fn postgres_secret(url: &str) -> String {
    let of_environment = || std::env::var("PGPASSWORD").ok();
    secret_of(url).or_else(of_environment).unwrap_or_else(|| SECRET.into())
}

/// A connection to a server of PostgreSQL.
pub(crate) fn connect(url: &str) -> postgres::Client {
    let mut config: postgres::Config = url.parse().unwrap();
    config.password(postgres_secret(url));
    config.connect(postgres::NoTls).unwrap()
}

/// A connection to a server of Redis.
pub(crate) fn open_redis(url: &str) -> redis::Connection {
    use redis::IntoConnectionInfo as _;
    let info = url.into_connection_info().unwrap();
    let mut settings = info.redis_settings().clone();
    if let Some(secret) = secret_of(url) {
        settings = settings.set_password(secret);
    }
    redis::Client::open(info.set_redis_settings(settings)).unwrap().get_connection().unwrap()
}

/// A connection to a place's Redis, and the prefix of its keys.
pub(crate) fn connect_redis(place: &Place) -> (redis::Connection, String) {
    let (url, prefix) = place.redis.clone().unwrap();
    (open_redis(&url), prefix)
}

/// A new database on the server at `url`: its address.
pub(crate) fn database(url: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("drain_{}_{count}", std::process::id());
    connect(url).batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

/// A prefix for keys that no other test uses.
pub(crate) fn prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}:", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A drain's place: a journal, a configuration, sinks.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) postgres: Option<String>,
    /// The schema in it.
    pub(crate) schema: String,
    pub(crate) redis: Option<(String, String)>,
    pub(crate) parquet: bool,
    /// Whether the journal is written in a ring in memory.
    pub(crate) hot: bool,
    /// More lines of `[drain]`, `[drain.parquet]`, `[drain.postgres]`, `[drain.redis]`.
    pub(crate) more: [String; 4],
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            postgres: None,
            schema: "kairos".into(),
            redis: None,
            parquet: false,
            hot: false,
            more: Default::default(),
        }
    }

    /// With files.
    pub(crate) fn with_files() -> Self {
        Self { parquet: true, ..Self::new() }
    }

    /// With a database of its own; `None` (and a message) where there is no server.
    pub(crate) fn with_postgres() -> Option<Self> {
        let url = servers().postgres.as_ref()?;
        Some(Self { postgres: Some(database(url)), ..Self::new() })
    }

    /// With keys of its own.
    pub(crate) fn with_redis() -> Option<Self> {
        let url = servers().redis.clone()?;
        Some(Self { redis: Some((url, prefix())), ..Self::new() })
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// The ring of placement `hot`.
    pub(crate) fn ring(&self) -> PathBuf {
        self.dir.path().join("ring")
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.dir.path().join("parquet")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Writes the configuration and gives its path.
    pub(crate) fn config(&self) -> PathBuf {
        let [drain, parquet, postgres, redis] = &self.more;
        let mut text = format!(
            "[engine]\nname = \"test\"\nrun_dir = {:?}\n[journal]\ndir = {:?}\n",
            self.run_dir(),
            self.journal(),
        );
        if self.hot {
            let _ = write!(text, "placement = \"hot\"\nhot_dir = {:?}\n", self.ring());
        }
        let _ = write!(text, "[drain]\n{drain}\n");
        if self.parquet {
            let _ = write!(text, "[drain.parquet]\ndir = {:?}\n{parquet}\n", self.files());
        }
        if let Some(url) = &self.postgres {
            let schema = &self.schema;
            let _ =
                write!(text, "[drain.postgres]\nurl = {url:?}\nschema = {schema:?}\n{postgres}\n");
        }
        if let Some((url, prefix)) = &self.redis {
            let _ = write!(text, "[drain.redis]\nurl = {url:?}\nkey_prefix = {prefix:?}\n");
            let _ = write!(text, "stream_maxlen = 10000000\n{redis}\n");
        }
        let file = self.dir.path().join("kairos.toml");
        fs::write(&file, text).unwrap();
        file
    }

    /// A command of the drain.
    pub(crate) fn command(&self, verb: &str) -> Command {
        self.command_with(verb, &self.config())
    }

    /// The same with another configuration.
    pub(crate) fn command_with(&self, verb: &str, config: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kairos-drain"));
        command.arg(verb).arg("--config").arg(config);
        let postgres = self.postgres.as_deref().unwrap_or("postgres://");
        command.env("PGPASSWORD", postgres_secret(postgres));
        if let Some(secret) = self.redis.as_ref().and_then(|it| secret_of(&it.0)) {
            command.env("REDIS_PASSWORD", secret);
        }
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn call(&self, verb: &str, arguments: &[&str]) -> Output {
        self.command(verb).args(arguments).output().unwrap()
    }

    /// Runs until everything is in every sink.
    pub(crate) fn catch_up(&self) {
        let output = self.call("run", &["--until-caught-up"]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts the drain as a service.
    pub(crate) fn start(&self) -> Running {
        let log = fs::File::create(self.dir.path().join("drain.log")).unwrap();
        let child = self.command("run").stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Running(child)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("drain.log")).unwrap_or_default()
    }

    /// What the status file says of a sink.
    pub(crate) fn status(&self, sink: &str) -> Option<kairos_drain::status::SinkStatus> {
        let page = kairos_drain::status::Page::read(&self.run_dir()).ok()??;
        page.sinks.into_iter().find(|it| it.sink == sink)
    }
}

/// A drain that runs; killed when it goes.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Kills it as the kernel would. It must have been alive.
    pub(crate) fn kill(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "it ended by itself");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// Tells it to stop, and waits for its status.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal("TERM");
        self.0.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|it| it.is_none()) {
            let _killed = self.0.kill();
            let _waited = self.0.wait();
        }
    }
}

/// Waits until something holds; a minute at most.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Numbers that differ from run to run of a test, and are printed with its failure.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap() | 1;
        eprintln!("seed {seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}
