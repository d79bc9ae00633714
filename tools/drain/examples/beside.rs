//! Whether an engine notices a drain: tick to order with the drain catching up at full speed beside it, and
//! without.
//!
//! ```sh
//! taskset -c 0 tools/drain/dev-services up > /tmp/urls; eval "$(sed 's/^/export /' /tmp/urls)"
//! export PGPASSWORD=kairos-dev
//! cargo build --release -p kairos-engine -p kairos-drain
//! cargo run --release -p kairos-drain --example beside -- target/release CAPTURE JOURNAL [PAIRS] [PACE]
//! ```
//!
//! The engine plays the capture on CPU 1, all seats fused; the drain (and the servers, if they were started as
//! above) take JOURNAL into empty sinks on CPU 0, again and again. Pairs interleave. A loop that only reads the
//! clock looks at CPU 1 between them: the 99th percentile of its gaps is the host's share. One JSON document
//! goes to stdout; exit 2 where the median difference of the pairs' p99 is more than that.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// A gap is what is longer than this: some readings of the clock, no interrupt is that short.
const GAP: Duration = Duration::from_nanos(150);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|it| it == "--probe") {
        let _printed = writeln!(std::io::stdout(), "{}", probe());
        return ExitCode::SUCCESS;
    }
    let [binaries, capture, journal, more @ ..] = arguments.as_slice() else {
        eprintln!("beside: name the folder of the binaries, a capture and a journal");
        return ExitCode::from(64);
    };
    let pairs = more.first().and_then(|it| it.parse().ok()).unwrap_or(7);
    let pace = more.get(1).map_or("30.0", String::as_str);
    let home = std::env::temp_dir().join(format!("kairos-beside-{}", std::process::id()));
    let this = Beside {
        binaries: binaries.into(),
        capture: capture.into(),
        journal: journal.into(),
        pace: pace.into(),
        home,
    };
    match this.measure(pairs) {
        Ok(report) => {
            let _printed = writeln!(std::io::stdout(), "{report}");
            if report["within_the_hosts_gap"] == true {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(2)
            }
        }
        Err(error) => {
            eprintln!("beside: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Beside {
    binaries: PathBuf,
    capture: PathBuf,
    journal: PathBuf,
    pace: String,
    home: PathBuf,
}

impl Beside {
    fn measure(&self, pairs: usize) -> Result<Value, Failure> {
        std::fs::create_dir_all(&self.home)?;
        let (mut without, mut beside, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..pairs {
            // Whatever drifts meets both sides alike.
            for with_drain in [pair % 2 == 0, pair % 2 != 0] {
                gaps.extend(self.probe()?);
                let drain = if with_drain { Some(Drain::start(self)?) } else { None };
                let p99 = self.engine()?;
                drop(drain);
                if with_drain { beside.push(p99) } else { without.push(p99) }
            }
        }
        std::fs::remove_dir_all(&self.home)?;
        gaps.sort_unstable();
        let gap = gaps.get(gaps.len() * 99 / 100).copied().unwrap_or(0);
        let mut differences: Vec<i64> = beside
            .iter()
            .zip(&without)
            .map(|(beside, without)| beside.cast_signed() - without.cast_signed())
            .collect();
        differences.sort_unstable();
        let median = differences[differences.len() / 2];
        Ok(json!({
            "pairs": pairs,
            "tick_to_order_p99_ns_without": without,
            "tick_to_order_p99_ns_beside": beside,
            "median_difference_ns": median,
            "gap_p99_ns": gap,
            "within_the_hosts_gap": median <= gap.cast_signed(),
        }))
    }

    fn probe(&self) -> Result<Vec<u64>, Failure> {
        let output = Command::new("taskset")
            .args(["-c", "1"])
            .arg(std::env::current_exe()?)
            .arg("--probe")
            .output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Plays the capture; the 99th percentile of tick to order in nanoseconds.
    fn engine(&self) -> Result<u64, Failure> {
        let journal = self.home.join("engine");
        let _none = std::fs::remove_dir_all(&journal);
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engine/config/capture.toml");
        let mut command = Command::new(self.binaries.join("kairos-engine"));
        command.arg("run").arg("--json").arg("--config").arg(config);
        let run_dir = self.home.join("run").display().to_string();
        let mut set = |value: String| {
            command.arg("--set").arg(value);
        };
        set(format!("venues.binance.captures=[{:?}]", self.capture.display().to_string()));
        set(format!("venues.binance.pace={}", self.pace));
        set(format!("journal.dir={}", journal.display()));
        set(format!("engine.run_dir={run_dir}"));
        set("cores.wait=spin".to_owned());
        for seat in ["feed", "strategy", "risk", "execution", "journal"] {
            set(format!("cores.{seat}=1"));
        }
        let output = command.stderr(Stdio::piped()).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let summary: Value = serde_json::from_slice(&output.stdout)?;
        let p99 = summary["latency"]["tick→order"]["p99_ns"].as_u64();
        Ok(p99.ok_or("the engine's summary has no latency of tick→order")?)
    }
}

/// The drain on CPU 0, over and over, until it goes.
struct Drain(Child);

impl Drain {
    fn start(of: &Beside) -> Result<Self, Failure> {
        let config = of.home.join("drain.toml");
        let mut text = format!(
            "[engine]\nname = \"beside\"\nrun_dir = {:?}\n[journal]\ndir = {:?}\n[drain.parquet]\ndir = {:?}\n",
            of.home.join("drain-run"),
            of.journal,
            of.home.join("parquet"),
        );
        let mut sinks = vec!["parquet"];
        if let Ok(url) = std::env::var("KAIROS_TEST_PG_URL") {
            text += &format!("[drain.postgres]\nurl = {url:?}\nschema = \"kairos_beside\"\n");
            sinks.push("postgres");
        }
        if let Ok(url) = std::env::var("KAIROS_TEST_REDIS_URL") {
            text += &format!("[drain.redis]\nurl = {url:?}\nkey_prefix = \"beside:\"\n");
            sinks.push("redis");
        }
        std::fs::write(&config, text)?;
        let drain = of.binaries.join("kairos-drain").display().to_string();
        let config = config.display();
        let rebuild: String = sinks
            .iter()
            .map(|sink| format!("{drain} rebuild {sink} --yes --config {config} && "))
            .collect();
        let again =
            format!("while {rebuild}{drain} run --until-caught-up --config {config}; do :; done");
        let mut command = Command::new("setsid");
        command.args(["taskset", "-c", "0", "bash", "-c", &again]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // Until it is at work.
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self(child))
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        // The loop and what it started are a group of their own.
        let group = format!("-{}", self.0.id());
        let _killed = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _waited = self.0.wait();
    }
}

/// Looks for a quarter of a second at the gaps between two readings of the clock.
fn probe() -> Value {
    let begun = Instant::now();
    let (mut before, mut gaps) = (begun, Vec::new());
    while before.duration_since(begun) < Duration::from_millis(250) {
        let now = Instant::now();
        let gap = now.duration_since(before);
        if gap > GAP {
            gaps.push(u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX));
        }
        before = now;
    }
    json!(gaps)
}
