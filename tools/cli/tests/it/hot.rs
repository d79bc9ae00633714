//! Placement `hot` as it is operated: engine, drain and tool as processes, on a recorded capture and on
//! a simulated venue, killed at any point.

use std::cell::Cell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use kairos_edge::stats::{JournalView, StatsReader};
use kairos_journal::{Journal, RunStatus};
use tempfile::TempDir;

use crate::harness::{KAIROS, journal, kairos, replay};

/// Engine and drain, which a build of the workspace leaves beside the tool.
fn program(name: &str) -> Option<PathBuf> {
    let path = Path::new(KAIROS).with_file_name(name);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: no {}; build the workspace", path.display());
    assert!(std::env::var_os("KAIROS_TEST_MUST_HAVE_SERVERS").is_none(), "no {name}");
    None
}

/// A ring, an archive, and programs to start on them.
struct Place {
    root: TempDir,
    ring: TempDir,
    engine: PathBuf,
    drain: PathBuf,
    random: Cell<u64>,
}

impl Place {
    fn new() -> Option<Self> {
        let root = TempDir::new().unwrap();
        let ring = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let (engine, drain) = (program("kairos-engine")?, program("kairos-drain")?);
        Some(Self { root, ring, engine, drain, random: Cell::new(0x9e37_79b9_7f4a_7c15) })
    }

    fn below(&self, bound: u64) -> u64 {
        let step = |it: u64| {
            it.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
        };
        self.random.set(step(self.random.get()));
        (self.random.get() >> 33) % bound
    }

    fn journal(&self) -> PathBuf {
        self.root.path().join("disk/journal")
    }

    fn run_dir(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// A configuration with its market data from `venue`.
    fn config(&self, name: &str, venue: &str) -> PathBuf {
        let mut text = String::from("[engine]\nname = \"hot\"\n");
        let dir = |key: &str, path: &Path| format!("{key} = {:?}\n", path.display().to_string());
        text += &dir("run_dir", &self.run_dir());
        text += "[cores]\nfeed = 0\nstrategy = 0\nrisk = 0\nexecution = 0\njournal = 0\nwait = \"yield\"\n";
        text += "[journal]\nplacement = \"hot\"\nhot_segments = 4\nsegment_mib = 2\n";
        text += "archiver_wait_ms = 60000\ndurable_lag_act_ms = 60000\n";
        text += &dir("hot_dir", &self.ring.path().join("ring"));
        text += &dir("dir", &self.journal());
        text += "[drain.parquet]\nseconds = 1\n";
        text += &dir("dir", &self.root.path().join("parquet"));
        let _ = write!(
            text,
            "[venues.binance]\n{venue}\n[strategies.mm]\nkind = \"market_maker\"\n\
             [strategies.mom]\nkind = \"momentum\"\n[risk]\nmax_order_notional = \"1000000\"\n\
             max_position_notional = \"10000000\"\n"
        );
        let path = self.root.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn simulated(&self) -> PathBuf {
        self.config(
            "sim.toml",
            "market_data = \"sim\"\ninstruments = [\"BTCUSDT\", \"ETHUSDT\", \"ETHBTC\"]",
        )
    }

    /// A recorded capture where there are some, else the seeded exchange.
    fn captured(&self) -> PathBuf {
        let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
        let dir = std::env::var_os("KAIROS_CAPTURES").map_or(default, PathBuf::from);
        let recorded = dir.join("binance/btcusdt_20240808.frames.gz");
        let (file, instruments) = if recorded.is_file() {
            (recorded, "[\"BTCUSDT\"]")
        } else {
            let made = crate::seeded::capture(self.root.path(), 5, 20);
            (made, "[\"BTCUSDT\", \"ETHUSDT\", \"ETHBTC\"]")
        };
        let file = file.display().to_string();
        let venue = "market_data = \"capture\"\npace = \"max\"\n";
        self.config(
            "capture.toml",
            &format!("{venue}captures = [{file:?}]\ninstruments = {instruments}"),
        )
    }

    fn start(&self, program: &Path, config: &Path, more: &[&str]) -> Process {
        let log = self.root.path().join(format!("log-{}", self.below(u64::MAX)));
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(config)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn();
        Process { child: child.unwrap(), log }
    }

    fn engine(&self, config: &Path) -> Process {
        self.start(&self.engine, config, &[])
    }

    fn drain(&self, config: &Path, role: &str) -> Process {
        self.start(&self.drain, config, &["--role", role])
    }

    fn ask_drain(&self, verb: &str, config: &Path) -> Output {
        Command::new(&self.drain).args([verb, "--config"]).arg(config).output().unwrap()
    }

    /// What the page says of the run after `run`, once it has committed some events.
    fn wait_for_run_after(&self, run: u64, engine: &mut Process) -> JournalView {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let page = StatsReader::open(&self.run_dir()).ok().map(|it| it.read(0).journal);
            if let Some(page) = page.filter(|it| it.run > run && it.committed > 0) {
                return page;
            }
            assert!(Instant::now() < deadline, "run {} does not begin", run + 1);
            engine.assert_not_failed();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the page of a dead engine says last.
    fn page(&self) -> JournalView {
        StatsReader::open(&self.run_dir()).unwrap().read(0).journal
    }
}

/// A process of ours; killed when it is dropped.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn assert_not_failed(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            assert!(status.success(), "{status}: {}", self.said());
        }
    }

    fn kill(mut self) {
        self.assert_not_failed();
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    fn ends(&mut self, status: i32) -> String {
        let ended = self.child.wait().unwrap();
        let said = self.said();
        assert_eq!(ended.code(), Some(status), "{said}");
        said
    }

    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ends(0);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every verb reads a journal while its engine and its archiver live, and changes none of its bytes.
fn ask_the_living(dir: &Path, round: u64) {
    match round % 4 {
        0 => drop(journal("verify", dir, "--json").expect(0)),
        1 => drop(replay(dir, "--verify --json").expect(0)),
        2 => {
            let info = journal("info", dir, "--json").expect(0).document();
            assert!(info["events"].is_object(), "{info}");
            journal("prune", dir, "--max-mib 1").expect(0);
        }
        _ => {
            let said = journal("dump", dir, "--limit 3").expect(0);
            assert!(said.lines().len() <= 3);
            journal("latency", dir, "--json").expect(0);
        }
    }
}

#[test]
fn whoever_is_killed_the_archive_replays_and_holds_what_was_committed() {
    const ROUNDS: u64 = 16;
    let Some(place) = Place::new() else { return };
    let configs = [place.simulated(), place.captured()];
    let dir = place.journal();
    let mut drain = None;
    let mut engine: Option<Process> = None;
    let mut run = 0;
    let mut committed = Vec::new();
    let (mut engines, mut drains) = (0, 0);
    for round in 0..ROUNDS {
        let config = &configs[usize::from(round % 3 == 2)];
        let role = if round % 4 == 3 { "all" } else { "archive" };
        drain.get_or_insert_with(|| place.drain(config, role));
        if engine.is_none() {
            let mut started = place.engine(config);
            run = place.wait_for_run_after(run, &mut started).run;
            engine = Some(started);
        }
        std::thread::sleep(Duration::from_millis(place.below(400)));
        ask_the_living(&dir, round);
        let who = place.below(4);
        if who != 0 {
            engine.take().unwrap().kill();
            committed.push((run, place.page().committed));
            engines += 1;
        }
        if who != 1 {
            drain.take().unwrap().kill();
            drains += 1;
        }
    }
    drop(engine.take());
    let drain = drain.unwrap_or_else(|| place.drain(&configs[1], "all"));
    let mut last = place.engine(&configs[1]);
    last.ends(0);
    drain.stop();
    let mut caught_up = place.start(&place.drain, &configs[1], &["--until-caught-up"]);
    caught_up.ends(0);

    assert!(engines >= 5 && drains >= 5, "{engines} engines, {drains} drains");
    journal("verify", &dir, "--json").expect(0);
    let said = replay(&dir, "--verify --json").expect(0).document();
    assert_eq!(said["equal"], true, "{said}");
    let runs = Journal::open(&dir).unwrap().runs().unwrap();
    assert_eq!(runs.last().unwrap().status, RunStatus::Ended);
    for (run, committed) in committed {
        let kept = runs.iter().find(|it| it.run == run).unwrap().last_seq;
        assert!(kept >= Some(committed), "run {run}: {kept:?} of {committed} committed");
    }
    let audit = place.ask_drain("audit", &configs[1]);
    assert_eq!(audit.status.code(), Some(0), "{}", String::from_utf8_lossy(&audit.stderr));
}

#[test]
fn a_ring_that_is_lost_has_to_be_accepted_and_trading_goes_on_behind_the_cut() {
    let Some(place) = Place::new() else { return };
    let (config, dir) = (place.simulated(), place.journal());
    let drain = place.drain(&config, "archive");
    let mut engine = place.engine(&config);
    place.wait_for_run_after(0, &mut engine);
    let deadline = Instant::now() + Duration::from_secs(60);
    while place.page().durable < 200 {
        assert!(Instant::now() < deadline, "{:?}", place.page());
        std::thread::sleep(Duration::from_millis(2));
    }
    drain.kill();
    engine.kill();
    let durable = place.page().durable;
    std::fs::remove_dir_all(place.ring.path().join("ring")).unwrap();
    for _ in 0..2 {
        let said = place.drain(&config, "archive").ends(2);
        assert!(said.contains("is gone without a reboot"), "{said}");
        let status = place.ask_drain("status", &config);
        assert_eq!(status.status.code(), Some(2), "the archiver is broken, and says so");
        journal("recover", &dir, "").expect(2);
    }
    let report = journal("recover", &dir, "--accept-loss --json").expect(0).document();
    assert_eq!(report["verdict"], "CUT", "{report}");
    assert!(report["kept"][1].as_u64() >= Some(durable), "{report}, durable {durable}");
    let drain = place.drain(&config, "all");
    let mut engine = place.engine(&config);
    let page = place.wait_for_run_after(1, &mut engine);
    assert_eq!((page.run, page.ring_slots), (2, 4));
    engine.stop();
    drain.stop();
    journal("verify", &dir, "").expect(0);
    replay(&dir, "--verify").expect(0);
    let held = kairos(["journal", "hold", "ls", dir.to_str().unwrap()]).expect(0).out;
    assert_eq!(held.trim(), "no holds");
}

/// A disk of so many MiB for the archive, while the value lives; `None` where none can be mounted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output();
        if mounted.is_ok_and(|it| it.status.success()) {
            return Some(Self(at));
        }
        eprintln!("skipped: cannot mount a tmpfs");
        None
    }

    fn grow(&self, mib: u32) {
        let how = format!("remount,size={mib}m");
        let grown = Command::new("mount").args(["-o", &how]).arg(&self.0).status().unwrap();
        assert!(grown.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_disk_that_is_full_is_told_and_waited_for() {
    let Some(place) = Place::new() else { return };
    let Some(disk) = SmallDisk::mount(place.root.path().join("disk"), 3) else { return };
    let config = place.captured();
    let drain = place.drain(&config, "archive");
    let mut engine = place.engine(&config);
    let deadline = Instant::now() + Duration::from_secs(60);
    // One segment fits; then it waits, and the engine goes on in its ring.
    while place.ask_drain("status", &config).status.code() != Some(1) {
        assert!(Instant::now() < deadline, "never full: {}", drain.said());
        engine.assert_not_failed();
    }
    let said = place.ask_drain("status", &config);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("full") && said.contains("disk full: a segment needs"), "{said}");
    disk.grow(256);
    engine.ends(0);
    drain.stop();
    journal("verify", &place.journal(), "").expect(0);
    let said = replay(&place.journal(), "--verify --json").expect(0).document();
    assert_eq!((&said["equal"], &said["unjournaled"]), (&true.into(), &0.into()), "{said}");
}
