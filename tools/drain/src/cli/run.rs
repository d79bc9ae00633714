//! `kairos-drain run`.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kairos_edge::config::{Config, Drain};
use kairos_edge::stats;
use kairos_journal::archive::ArchiveOptions;
use kairos_journal::{Class, Error as JournalError, Journal};

use super::{SAYS_NO, Where};
use crate::archive;
use crate::files::Files;
use crate::postgres::{self, Server};
use crate::redis::{self, Lane};
use crate::service::{self, Job, Plan};
use crate::sink::{Batch, Sink};
use crate::source::Follow;
use crate::status::{Board, Page, SinkStatus, State, now_ns, pause_file};

/// How often the status file is written and bars are drawn.
const TURN: Duration = Duration::from_millis(200);
/// How often a sink that is behind says how far it is, where nobody looks at bars.
const TELL: Duration = Duration::from_secs(5);

/// Follow the journal and write every configured sink, until told to stop.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    place: Where,
    /// Which part of the drain this process is.
    #[arg(long, value_enum, default_value_t = Role::All)]
    role: Role,
    /// Stop with 0 when every sink holds the whole journal.
    #[arg(long)]
    until_caught_up: bool,
}

/// Parts of the drain that may run as processes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// The ring of placement `hot`, copied to the journal's directory.
    Archive,
    /// Files and databases.
    Sinks,
    /// Everything that the configuration asks for.
    All,
}

pub(super) fn run(args: &RunArgs) -> ExitCode {
    let (config, drain) = match args.place.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            eprintln!("kairos-drain: signal {signal}: {error}");
            return ExitCode::FAILURE;
        }
    }
    let run_dir = stats::make_run_dir(&config.engine.name, config.engine.run_dir.as_deref())
        .inspect_err(|error| eprintln!("kairos-drain: no status file: {error}"))
        .ok();
    let options = archive::options(&config, &drain, args.until_caught_up);
    match (args.role, options) {
        (Role::Archive, None) => {
            eprintln!(
                "kairos-drain: journal.placement = \"direct\": --role archive needs \"hot\"; \
                 with \"direct\" the engine writes to disk by itself"
            );
            ExitCode::from(super::CONFIGURATION)
        }
        (Role::Archive, Some(options)) => {
            archived(archive::run(options, &stop, run_dir.as_deref(), || {}))
        }
        (Role::Sinks, _) | (Role::All, None) => {
            sinks(args, (&config, &drain), run_dir.as_deref(), &stop)
        }
        (Role::All, Some(options)) => {
            both(args, (&config, &drain), options, run_dir.as_deref(), &stop)
        }
    }
}

/// The exit status of an archiver.
fn archived(ended: Result<(), JournalError>) -> ExitCode {
    let Err(error) = ended else { return ExitCode::SUCCESS };
    eprintln!("kairos-drain: archive: {error}");
    match error.class() {
        Class::Damaged => ExitCode::from(SAYS_NO),
        Class::Unavailable => ExitCode::FAILURE,
        Class::Configuration => ExitCode::from(super::CONFIGURATION),
    }
}

/// The archiver and the sinks in one process. The archiver goes first: until it has looked at what is
/// there, there may be no journal to read, or one that is about to be repaired.
fn both(
    args: &RunArgs,
    config: (&Config, &Drain),
    options: ArchiveOptions,
    run_dir: Option<&Path>,
    stop: &Arc<AtomicBool>,
) -> ExitCode {
    let (settled, is_settled) = mpsc::sync_channel(1);
    thread::scope(|scope| {
        let archiver = scope.spawn(|| {
            let ended = archive::run(options, stop, run_dir, || {
                // Nobody listens where the sinks have given up already.
                let _sent = settled.try_send(());
            });
            drop(settled);
            if ended.is_err() {
                // Without it the engine halts; the service manager starts both again.
                stop.store(true, Ordering::Relaxed);
            }
            archived(ended)
        });
        let mut status = ExitCode::SUCCESS;
        if args.until_caught_up {
            // The sinks hold the whole journal once they hold the whole archive.
            while !archiver.is_finished() && !stop.load(Ordering::Relaxed) {
                thread::sleep(TURN);
            }
        }
        if is_settled.recv().is_ok() && !stop.load(Ordering::Relaxed) {
            status = sinks(args, config, run_dir, stop);
            if !args.until_caught_up && !stop.load(Ordering::Relaxed) {
                eprintln!("kairos-drain: every sink has ended; the archiver goes on");
            }
        }
        match archiver.join() {
            Ok(ended) if ended == ExitCode::SUCCESS => status,
            Ok(ended) => ended,
            Err(_) => ExitCode::FAILURE, // it panicked, and has said why
        }
    })
}

/// Every sink that the configuration names.
fn jobs(config: &Config, drain: &Drain) -> Vec<Job> {
    let mut jobs = Vec::new();
    let batch = Batch {
        rows: drain.batch_rows,
        catchup_rows: drain.catchup_rows,
        bytes: drain.batch_bytes,
        ms: drain.batch_ms,
    };
    if let Some(redis) = drain.redis.clone() {
        for lane in 0..redis.connections {
            let redis = redis.clone();
            jobs.push(Job {
                name: redis::name(lane),
                follow: Follow::Committed,
                paused: Arc::default(),
                make: Box::new(move || {
                    Box::new(Lane::new(redis.clone(), batch, lane)) as Box<dyn Sink>
                }),
            });
        }
    }
    if let Some(postgres) = drain.postgres.clone() {
        let journal = config.journal.dir.clone();
        let make = move || Server::new(postgres.clone(), batch, journal.clone());
        jobs.push(Job {
            name: postgres::NAME.into(),
            follow: Follow::Durable,
            paused: Arc::default(),
            make: Box::new(move || Box::new(make()) as Box<dyn Sink>),
        });
    }
    if let Some(parquet) = drain.parquet.clone() {
        jobs.push(Job {
            name: "parquet".into(),
            follow: Follow::Durable,
            paused: Arc::default(),
            make: Box::new(move || Box::new(Files::new(parquet.clone())) as Box<dyn Sink>),
        });
    }
    jobs
}

fn sinks(
    args: &RunArgs,
    (config, drain): (&Config, &Drain),
    run_dir: Option<&Path>,
    stop: &Arc<AtomicBool>,
) -> ExitCode {
    let jobs = jobs(config, drain);
    if jobs.is_empty() {
        eprintln!("kairos-drain: every sink of [drain] has enabled = false: nothing to do");
        return ExitCode::FAILURE;
    }
    let journal = config.journal.dir.clone();
    if let Err(error) = Journal::open(&journal) {
        eprintln!("kairos-drain: {error}");
        return ExitCode::FAILURE;
    }
    let plan = Plan {
        journal: journal.clone(),
        until_caught_up: args.until_caught_up,
        stop: Arc::clone(stop),
        stop_timeout: Duration::from_millis(drain.stop_timeout_ms),
        catchup_bytes_per_s: drain.catchup_bytes_per_s,
    };
    eprintln!(
        "kairos-drain: a batch: {} events, {} while behind, {} MiB or {} ms",
        drain.batch_rows,
        drain.catchup_rows,
        drain.batch_bytes >> 20,
        drain.batch_ms
    );
    let mut threads = Vec::new();
    let mut boards = Vec::new();
    for job in jobs {
        let board = Board::new(&job.name);
        if let Some(dir) = run_dir {
            job.paused.store(is_paused(dir, &job.name), Ordering::Relaxed);
        }
        boards.push((board.clone(), Arc::clone(&job.paused)));
        let plan = plan.clone();
        let name = format!("drain-{}", job.name);
        let started =
            thread::Builder::new().name(name).spawn(move || service::run(&job, &plan, &board));
        match started {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                eprintln!("kairos-drain: cannot start a thread: {error}");
                stop.store(true, Ordering::Relaxed);
                return ExitCode::FAILURE;
            }
        }
    }
    let mut watch = Watch::new(&journal, run_dir.map(Path::to_owned), boards);
    let mut stopping: Option<Instant> = None;
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        watch.turn();
        if stop.load(Ordering::Relaxed) {
            let since = *stopping.get_or_insert_with(Instant::now);
            if since.elapsed() > plan.stop_timeout {
                // A server that does not answer: what is in flight commits or not, and both are safe.
                eprintln!("kairos-drain: a sink did not finish in time; its batch comes again");
                break;
            }
        }
        thread::sleep(if stopping.is_some() { Duration::from_millis(5) } else { TURN });
    }
    watch.turn();
    watch.verdict(args.until_caught_up)
}

/// Shows how the sinks are.
struct Watch {
    journal: PathBuf,
    run_dir: Option<PathBuf>,
    boards: Vec<Board>,
    paused: Vec<Arc<AtomicBool>>,
    bars: Vec<ProgressBar>,
    said: Vec<Instant>, // when a sink's progress was last told, where there are no bars
    written: Option<Instant>,
    seen: Seen,
}

/// When the journal's end was seen where, so that a sink's place has an age.
#[derive(Default)]
struct Seen(VecDeque<(u64, Instant)>);

impl Seen {
    const MOST: usize = 4_096;

    fn note(&mut self, end: u64, now: Instant) {
        if self.0.back().is_none_or(|(last, _)| *last < end) {
            self.0.push_back((end, now));
        }
        if self.0.len() > Self::MOST {
            // Of a long outage every other sight is enough.
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// How long ago the journal first reached beyond `seq`, as far as was seen.
    fn lag(&self, seq: u64, now: Instant) -> Duration {
        let at = self.0.partition_point(|(end, _)| *end <= seq);
        self.0.get(at).map_or(Duration::ZERO, |(_, first)| now.saturating_duration_since(*first))
    }

    /// Forgets what every sink has passed.
    fn forget(&mut self, seq: u64) {
        while self.0.front().is_some_and(|(end, _)| *end <= seq) {
            self.0.pop_front();
        }
    }
}

impl Watch {
    fn new(
        journal: &Path,
        run_dir: Option<PathBuf>,
        boards: Vec<(Board, Arc<AtomicBool>)>,
    ) -> Self {
        let (boards, paused): (Vec<_>, Vec<_>) = boards.into_iter().unzip();
        let bars = if std::io::stderr().is_terminal() { bars(&boards) } else { Vec::new() };
        let said = vec![Instant::now(); boards.len()];
        let (journal, seen) = (journal.to_owned(), Seen::default());
        Self { journal, run_dir, boards, paused, bars, said, written: None, seen }
    }

    /// Pauses the sinks that an operator wants paused.
    fn pause(&self) {
        let Some(dir) = &self.run_dir else { return };
        for (board, paused) in self.boards.iter().zip(&self.paused) {
            paused.store(is_paused(dir, &board.read().sink), Ordering::Relaxed);
        }
    }

    /// Without a terminal: a line now and then while a sink is behind.
    fn tell(&mut self, end: u64, now: Instant) {
        if !self.bars.is_empty() {
            return;
        }
        for (said, board) in self.said.iter_mut().zip(&self.boards) {
            let it = board.read();
            if it.state != State::CatchUp || it.lag_events == 0 {
                *said = now;
            } else if now.saturating_duration_since(*said) >= TELL {
                *said = now;
                eprintln!("kairos-drain: {}: {}", it.sink, progress(&it, end));
            }
        }
    }

    fn turn(&mut self) {
        self.pause();
        let watermark = Journal::open(&self.journal).and_then(|it| it.watermark());
        let durable_seq = watermark.ok().flatten().map_or(0, |it| it.seq);
        let now = Instant::now();
        self.seen.note(durable_seq, now);
        let mut least = u64::MAX;
        for board in &self.boards {
            board.update(|it| {
                it.lag_events = durable_seq.saturating_sub(it.seq);
                it.lag_seconds = self.seen.lag(it.seq, now).as_secs_f64();
                least = least.min(it.seq);
            });
        }
        self.seen.forget(least);
        for (bar, board) in self.bars.iter().zip(&self.boards) {
            let it = board.read();
            bar.set_length(durable_seq.max(it.seq));
            bar.set_position(it.seq);
            bar.set_message(format!("{} {:.0}/s", it.state.text(), it.events_per_second));
        }
        self.tell(durable_seq, now);
        let Some(dir) = &self.run_dir else { return };
        let is_due = self.written.is_none_or(|at| at.elapsed() >= Duration::from_secs(1));
        let is_over = self.boards.iter().all(|it| {
            matches!(it.read().state, State::Done | State::Stopped) || it.read().state.is_broken()
        });
        if is_due || is_over {
            self.written = Some(Instant::now());
            let page = Page {
                pid: std::process::id(),
                journal: self.journal.display().to_string(),
                at_ns: now_ns(),
                durable_seq,
                sinks: self.boards.iter().map(Board::read).collect(),
            };
            // The next turn tries again; the sinks go on without.
            let _written = page.write(dir);
        }
    }

    fn verdict(&self, until_caught_up: bool) -> ExitCode {
        self.bars.iter().for_each(ProgressBar::finish_and_clear);
        let sinks: Vec<_> = self.boards.iter().map(Board::read).collect();
        for it in &sinks {
            let state = it.state.text();
            eprintln!(
                "kairos-drain: {}: {state}: run {} seq {}, {} events",
                it.sink, it.run, it.seq, it.events
            );
        }
        let damaged = sinks.iter().any(|it| it.errors.contains_key("journal"));
        let done =
            |state| if until_caught_up { state == State::Done } else { !state_is_broken(state) };
        if sinks.iter().all(|it| done(it.state)) {
            return ExitCode::SUCCESS;
        }
        let rejected = sinks.iter().any(|it| it.state == State::Rejected);
        match (damaged, rejected) {
            (true, _) => ExitCode::from(SAYS_NO),
            (false, true) => ExitCode::from(super::CONFIGURATION),
            (false, false) => ExitCode::FAILURE,
        }
    }
}

/// Whether an operator wants a sink paused. Every lane of a server is meant by its name.
fn is_paused(run_dir: &Path, sink: &str) -> bool {
    let of = sink.split_once('-').map_or(sink, |it| it.0);
    pause_file(run_dir, of).exists()
}

/// How far a sink that is behind has come.
#[expect(clippy::cast_precision_loss, reason = "numbers for a person")]
fn progress(it: &SinkStatus, end: u64) -> String {
    let (seq, end) = (it.seq, end.max(it.seq));
    let percent = seq as f64 * 100.0 / end.max(1) as f64;
    let left = (end - seq) as f64 / it.events_per_second.max(1.0);
    format!(
        "catch-up: seq {seq} of {end}, {percent:.1} %, {:.0} events/s, {left:.0} s left",
        it.events_per_second
    )
}

fn state_is_broken(state: State) -> bool {
    state.is_broken()
}

fn bars(boards: &[Board]) -> Vec<ProgressBar> {
    let all = MultiProgress::new();
    let style = ProgressStyle::with_template("{prefix:>9} {wide_bar} {percent} % {msg} {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = |board: &Board| {
        all.add(ProgressBar::new(0)).with_prefix(board.read().sink).with_style(style.clone())
    };
    boards.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_far_and_how_long() {
        let it = SinkStatus { seq: 250, events_per_second: 100.0, ..SinkStatus::default() };
        let want = "catch-up: seq 250 of 1000, 25.0 %, 100 events/s, 8 s left";
        assert_eq!(progress(&it, 1_000), want);
    }

    /// A sink that keeps up is not late, however long events have been coming.
    #[test]
    fn lag_is_the_age_of_the_oldest_event_that_is_missing() {
        let start = Instant::now();
        let second = |at: u64| start + Duration::from_secs(at);
        let mut seen = Seen::default();
        for at in 0..20_000_u64 {
            seen.note(at * 10, second(at));
            assert_eq!(seen.lag(at * 10, second(at)), Duration::ZERO);
            let late = seen.lag((at * 10).saturating_sub(25), second(at)).as_secs();
            assert_eq!(late, at.saturating_sub(1).min(2), "{at}");
            seen.forget((at * 10).saturating_sub(40));
        }
        assert!(seen.0.len() < 10);
        let mut outage = Seen::default();
        for at in 1..20_000_u64 {
            outage.note(at, second(at));
        }
        assert!(outage.0.len() <= Seen::MOST);
        assert_eq!(outage.lag(0, second(20_000)).as_secs(), 19_999);
    }
}
