//! Runs the sinks: one thread each, none of which another one can hold up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kairos_journal::cursors::{self, Position};

use crate::sink::{Batch, Cursor, Pending, Sink, SinkError};
use crate::source::{Follow, Run, Source, SourceError, Step, identify};
use crate::status::{Board, State, now_ns};

/// How long a reader rests at the end of the journal.
const REST: Duration = Duration::from_millis(5);
/// Entries between two looks at the clock.
const LOOK: u32 = 128;
/// How often a sink is tried at the start where somebody waits for its end.
const ATTACH_TRIES: u32 = 3;
/// How often a sink's position is left beside the journal.
const PUBLISH: Duration = Duration::from_secs(1);

/// A sink to be run.
pub struct Job {
    /// Its name: `parquet`, `postgres`, `redis`.
    pub name: String,
    /// Which frames it may read.
    pub follow: Follow,
    /// While set, it writes nothing and holds no connection.
    pub paused: Arc<AtomicBool>,
    /// Makes it. Called again after a panic.
    pub make: Box<dyn Fn() -> Box<dyn Sink> + Send>,
}

/// What is common to the sinks of one drain.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The journal.
    pub journal: PathBuf,
    /// Stop with success when a sink holds the whole journal.
    pub until_caught_up: bool,
    /// When set, every sink commits what it has and stops.
    pub stop: Arc<AtomicBool>,
    /// How long the last commit may be tried again then.
    pub stop_timeout: Duration,
    /// Most bytes per second that a sink that is behind sends; 0: as many as it can.
    pub catchup_bytes_per_s: u64,
}

/// Runs one sink until it is done, told to stop, or broken for good.
///
/// A panic ends this sink's pass only, and it is tried again. Builds whose profile aborts on a panic, as
/// the workspace's release profile does, end the process instead: the service manager starts it again,
/// and every sink goes on at its own cursor.
pub fn run(job: &Job, plan: &Plan, board: &Board) {
    let mut backoff = Backoff::default();
    loop {
        let worker = Worker { plan, board, job, backoff };
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut worker = worker;
            worker.drive((job.make)().as_mut());
        }));
        match ended {
            Ok(()) => return,
            Err(_) => {
                // The thread that panicked has said why on stderr.
                note(board, State::Failed, "panic", "the sink's code broke; see the log");
                backoff = Backoff::default();
                if plan.until_caught_up || !backoff.wait(plan) {
                    return;
                }
            }
        }
    }
}

fn note(board: &Board, state: State, class: &str, why: &str) {
    let mut is_new = false;
    board.update(|it| {
        // The same trouble has other ports, counts and times each time.
        let words =
            |text: &str| -> String { text.chars().filter(|it| !it.is_ascii_digit()).collect() };
        is_new = !it.is_said || it.last_error.as_deref().map(words) != Some(words(why));
        it.is_said = true;
        it.state = state;
        *it.errors.entry(class.to_owned()).or_default() += 1;
        it.last_error = Some(why.to_owned());
        it.last_error_at_ns = Some(now_ns());
    });
    if is_new {
        // Said once; repeated errors are counted.
        eprintln!("kairos-drain: {}: {}: {why}", board.read().sink, state.text());
    }
}

/// Waits between 100 ms and 30 s, longer each time, at random so that many drains do not come at once.
#[derive(Clone, Copy, Debug)]
struct Backoff {
    last: Duration,
    seed: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { last: Self::LEAST, seed: now_ns() | 1 }
    }
}

impl Backoff {
    const LEAST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(30);

    fn next(&mut self) -> Duration {
        // Decorrelated jitter: between the least and three times the last wait. Xorshift is random
        // enough for that.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let least = u64::try_from(Self::LEAST.as_millis()).unwrap_or(0);
        let last = u64::try_from(self.last.as_millis()).unwrap_or(0);
        let span = (last * 3).saturating_sub(least).max(1);
        self.last = Duration::from_millis(least + self.seed % span).min(Self::MOST);
        self.last
    }

    /// Waits; `false` where it was told to stop.
    fn wait(&mut self, plan: &Plan) -> bool {
        let until = Instant::now() + self.next();
        while !plan.stop.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(Duration::from_millis(20)));
        }
        false
    }
}

/// How a pass over the journal ended.
enum End {
    /// The sink holds all of it.
    Complete,
    /// The sink was told to stop.
    Stopped,
    /// The sink was told to pause.
    Paused,
}

struct Worker<'a> {
    plan: &'a Plan,
    board: &'a Board,
    job: &'a Job,
    backoff: Backoff,
}

impl Worker<'_> {
    /// Waits until the sink may go on; `false` where it was told to stop.
    fn wait_while_paused(&self, sink: &mut dyn Sink) -> bool {
        if !self.job.paused.load(Ordering::Relaxed) {
            return true;
        }
        sink.discard();
        sink.release();
        self.board.update(|it| it.state = State::Paused);
        while self.job.paused.load(Ordering::Relaxed) {
            if self.plan.stop.load(Ordering::Relaxed) {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    fn drive(&mut self, sink: &mut dyn Sink) {
        let mut held = None; // once attached
        let mut tries = 0;
        loop {
            if !self.wait_while_paused(sink) {
                return self.board.update(|it| it.state = State::Stopped);
            }
            let error = match self.pass(sink, &mut held) {
                Ok(End::Paused) => continue,
                Ok(End::Complete) => return self.board.update(|it| it.state = State::Done),
                Ok(End::Stopped) => return self.board.update(|it| it.state = State::Stopped),
                Err(error) => error,
            };
            match error {
                PassError::Source(error) if error.is_damage() => {
                    note(self.board, State::Failed, "journal", &error.to_string());
                    if self.plan.until_caught_up {
                        return;
                    }
                }
                PassError::Source(SourceError::Diverged(why)) => {
                    return note(self.board, State::Diverged, "diverged", &why);
                }
                PassError::Source(SourceError::Ahead(why)) if self.plan.until_caught_up => {
                    return note(self.board, State::Diverged, "diverged", &why);
                }
                PassError::Source(error) => {
                    note(self.board, State::Backoff, "journal", &error.to_string());
                }
                PassError::Sink(error) => {
                    let state = match &error {
                        SinkError::Fenced(_) => State::Fenced,
                        SinkError::Diverged(_) => State::Diverged,
                        SinkError::Rejected(_) => State::Rejected,
                        SinkError::Transient(_) | SinkError::InDoubt(_) | SinkError::Full(_) => {
                            State::Backoff
                        }
                    };
                    note(self.board, state, error.class(), &error.to_string());
                    if !error.passes() {
                        return;
                    }
                }
            }
            tries += 1;
            if self.plan.until_caught_up && held.is_none() && tries == ATTACH_TRIES {
                // Somebody waits for the end of this: a server that was never there is told.
                return self.board.update(|it| it.state = State::Failed);
            }
            if !self.backoff.wait(self.plan) {
                return self.board.update(|it| it.state = State::Stopped);
            }
        }
    }

    /// Attaches (or, with a source from before, asks for the cursor) and reads on until an error.
    fn pass(&mut self, sink: &mut dyn Sink, held: &mut Option<Position>) -> Result<End, PassError> {
        let (uuid, _) = identify(&self.plan.journal).map_err(SourceError::from)?;
        let Some(uuid) = uuid else {
            // No run yet: nothing to take, nothing to compare with.
            if self.plan.until_caught_up {
                return Ok(End::Complete);
            }
            if self.plan.stop.load(Ordering::Relaxed) {
                return Ok(End::Stopped);
            }
            thread::sleep(Duration::from_millis(100));
            return Err(PassError::Sink(SinkError::Transient("the journal has no run yet".into())));
        };
        self.board.update(|it| it.state = State::Attach);
        // A writer that has attached before keeps its place: another one that came since stays.
        let cursor = match held {
            None => sink.attach(&uuid)?,
            Some(_) => sink.recall()?,
        };
        *held = Some(Position { run: cursor.run, seq: cursor.next_seq - 1 });
        sink.discard();
        let source = Source::open(&self.plan.journal, cursor, self.job.follow)?;
        if source.cursor() != cursor {
            let (name, to) = (&self.job.name, source.cursor());
            eprintln!(
                "kairos-drain: {name}: held up to {cursor}; a power loss took back what came behind \
                 {to}, and the next run continues there"
            );
        }
        let cursor = source.cursor();
        let mut pass = Pass::new(self, cursor, sink.batch());
        pass.show(cursor, sink.epoch());
        pass.read(sink, source)
    }
}

enum PassError {
    Source(SourceError),
    Sink(SinkError),
}

impl From<SourceError> for PassError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<SinkError> for PassError {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

/// One way through the journal with one connection.
struct Pass<'a> {
    plan: &'a Plan,
    board: &'a Board,
    job: &'a Job,
    backoff: &'a mut Backoff,
    batch: Batch,
    begun: Instant,   // of the oldest event that waits
    behind: bool,     // the last batch was full
    read: Cursor,     // behind the last entry taken
    held: Cursor,     // by the sink
    told: u64,        // version of the run that the sink knows
    is_settled: bool, // the sink knows how the last run ended
    published: Option<Instant>,
    resumed: Instant, // behind the last commit
    rate: Rate,
}

impl<'a> Pass<'a> {
    fn new(worker: &'a mut Worker<'_>, cursor: Cursor, batch: Batch) -> Self {
        Self {
            plan: worker.plan,
            board: worker.board,
            job: worker.job,
            backoff: &mut worker.backoff,
            batch,
            begun: Instant::now(),
            behind: true,
            read: cursor,
            held: cursor,
            told: 0,
            is_settled: false,
            published: None,
            resumed: Instant::now(),
            rate: Rate::default(),
        }
    }

    fn read(&mut self, sink: &mut dyn Sink, mut source: Source) -> Result<End, PassError> {
        let mut until_look = LOOK;
        loop {
            let before = source.cursor();
            let step = match source.next() {
                Ok(step) => step,
                Err(error) => {
                    // What came before the damage is whole: it need not wait for the repair.
                    self.commit(sink, before)?;
                    return Err(error.into());
                }
            };
            match step {
                Step::Entry(run, entry) => {
                    let changed = before.run != run.number;
                    if sink.pending().events > 0
                        && (changed || sink.must_commit_before(run, &entry))
                    {
                        self.commit(sink, before)?;
                    }
                    self.tell(sink, run)?;
                    if sink.pending().events == 0 {
                        self.begun = Instant::now();
                    }
                    sink.add(run, &entry)?;
                    self.read = source.cursor();
                }
                Step::Mark => {
                    self.is_settled = false;
                    continue;
                }
                Step::Nothing { complete } => {
                    self.behind = false;
                    let is_over = complete && self.plan.until_caught_up;
                    let is_stopped = self.plan.stop.load(Ordering::Relaxed);
                    let is_paused = self.job.paused.load(Ordering::Relaxed);
                    if is_over || is_stopped || is_paused || self.is_due(sink) {
                        self.commit(sink, source.cursor())?;
                    }
                    if complete && !self.is_settled && sink.pending().events == 0 {
                        sink.settle()?;
                        self.is_settled = true;
                    }
                    if is_over {
                        self.publish(true);
                        return Ok(End::Complete);
                    }
                    if is_stopped {
                        self.publish(true);
                        return Ok(End::Stopped);
                    }
                    if is_paused {
                        self.publish(true);
                        return Ok(End::Paused);
                    }
                    self.publish(false);
                    thread::sleep(REST);
                    continue;
                }
            }
            let pending = sink.pending();
            let rows = if self.behind { self.batch.catchup_rows } else { self.batch.rows };
            until_look -= 1;
            let mut is_due = pending.events >= rows || pending.bytes >= self.batch.bytes;
            if until_look == 0 {
                until_look = LOOK;
                is_due |= self.is_due(sink);
                let is_stopped = self.plan.stop.load(Ordering::Relaxed);
                if is_stopped || self.job.paused.load(Ordering::Relaxed) {
                    self.commit(sink, self.read)?;
                    self.publish(true);
                    return Ok(if is_stopped { End::Stopped } else { End::Paused });
                }
            }
            if is_due {
                self.behind = true;
                self.commit(sink, self.read)?;
            }
        }
    }

    fn is_due(&self, sink: &dyn Sink) -> bool {
        let old = || self.begun.elapsed() >= Duration::from_millis(self.batch.ms);
        sink.pending().events > 0 && old()
    }

    fn tell(&mut self, sink: &mut dyn Sink, run: &Run) -> Result<(), SinkError> {
        if self.told != run.version {
            sink.run(run)?;
            self.told = run.version;
        }
        Ok(())
    }

    fn commit(&mut self, sink: &mut dyn Sink, next: Cursor) -> Result<(), SinkError> {
        let Pending { events, bytes } = sink.pending();
        if events == 0 {
            return Ok(());
        }
        let begun = Instant::now();
        sink.commit(next)?;
        if self.behind {
            let least = time_of(bytes, self.plan.catchup_bytes_per_s);
            self.rest_until(self.resumed + least);
        }
        self.resumed = Instant::now();
        *self.backoff = Backoff::default();
        self.held = next;
        self.rate.add(events, begun.elapsed());
        self.show(next, sink.epoch());
        self.publish(false);
        Ok(())
    }

    /// Waits, unless it is told to stop.
    fn rest_until(&self, at: Instant) {
        while !self.plan.stop.load(Ordering::Relaxed) {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    fn show(&mut self, held: Cursor, epoch: u64) {
        let behind = self.behind;
        let rate = &self.rate;
        self.board.update(|it| {
            it.state = if behind { State::CatchUp } else { State::Live };
            it.epoch = epoch;
            it.run = held.run;
            it.seq = held.next_seq - 1;
            it.events += rate.newest;
            it.events_per_second = rate.per_second;
            it.commits += u64::from(rate.newest > 0);
            it.is_said &= rate.newest == 0;
            it.commit_p50_ms = rate.percentile(50).as_secs_f64() * 1e3;
            it.commit_p99_ms = rate.percentile(99).as_secs_f64() * 1e3;
            it.commit_max_ms = rate.longest.as_secs_f64() * 1e3;
            it.batch_events = rate.batch;
        });
        self.rate.newest = 0;
    }

    /// Leaves the position beside the journal, for whoever removes old segments.
    fn publish(&mut self, now: bool) {
        if !self.behind {
            self.board.update(|it| {
                if it.state == State::CatchUp {
                    it.state = State::Live;
                }
            });
        }
        if !now && self.published.is_some_and(|at| at.elapsed() < PUBLISH) {
            return;
        }
        self.published = Some(Instant::now());
        let position = Position { run: self.held.run, seq: self.held.next_seq - 1 };
        if let Err(error) = cursors::publish(&self.plan.journal, &self.job.name, position) {
            let why = format!("cannot say how far it is: {error}; nothing will be pruned");
            self.board.update(|it| {
                if it.last_error.as_deref() != Some(&why) {
                    eprintln!("kairos-drain: {}: {why}", self.job.name);
                    it.last_error = Some(why);
                    it.last_error_at_ns = Some(now_ns());
                }
            });
        }
    }
}

/// The time that so many bytes may take at least.
fn time_of(bytes: usize, per_second: u64) -> Duration {
    if per_second == 0 {
        return Duration::ZERO;
    }
    let ns = u128::try_from(bytes).unwrap_or(0) * 1_000_000_000 / u128::from(per_second);
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// Events per second, and the longest commit, over about three seconds.
#[derive(Debug)]
struct Rate {
    since: Instant,
    events: u64,
    newest: u64,
    per_second: f64,
    slowest: Duration,
    longest: Duration,
    batch: u64,
    took: Vec<Duration>, // by the last commits
    at: usize,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            events: 0,
            newest: 0,
            per_second: 0.0,
            slowest: Duration::ZERO,
            longest: Duration::ZERO,
            batch: 0,
            took: Vec::with_capacity(Self::REMEMBERED),
            at: 0,
        }
    }
}

impl Rate {
    /// Commits of which percentiles are told.
    const REMEMBERED: usize = 512;

    /// The time that so many of a hundred commits took at most.
    fn percentile(&self, of_hundred: usize) -> Duration {
        let mut took = self.took.clone();
        let at = (took.len() * of_hundred / 100).min(took.len().saturating_sub(1));
        if took.is_empty() { Duration::ZERO } else { *took.select_nth_unstable(at).1 }
    }

    fn add(&mut self, events: usize, took: Duration) {
        let events = events as u64;
        self.batch = events;
        if self.took.len() < Self::REMEMBERED {
            self.took.push(took);
        } else {
            self.took[self.at] = took;
            self.at = (self.at + 1) % Self::REMEMBERED;
        }
        self.newest += events;
        self.events += events;
        self.slowest = self.slowest.max(took);
        self.longest = self.longest.max(took);
        let span = self.since.elapsed().as_secs_f64();
        if span >= 3.0 || self.per_second == 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
            let per_second = self.events as f64 / span.max(1e-6);
            self.per_second = per_second;
        }
        if span >= 3.0 {
            self.longest = self.slowest;
            (self.since, self.events, self.slowest) = (Instant::now(), 0, Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_bytes_is_a_least_time() {
        assert_eq!(time_of(1 << 20, 0), Duration::ZERO);
        assert_eq!(time_of(4 << 20, 8 << 20), Duration::from_millis(500));
        assert_eq!(time_of(0, 1), Duration::ZERO);
    }

    /// From a tenth of a second to half a minute, and never two drains in step.
    #[test]
    fn waits_grow_and_stay_within_their_bounds() {
        for seed in 1..200_u64 {
            let mut backoff = Backoff { last: Backoff::LEAST, seed: seed * 7_919 };
            let waits: Vec<_> = (0..60).map(|_| backoff.next()).collect();
            assert!(waits.iter().all(|it| (Backoff::LEAST..=Backoff::MOST).contains(it)), "{seed}");
            assert!(waits[0] < Duration::from_millis(300), "{seed}");
            let longest = waits.iter().max().copied().unwrap_or_default();
            assert!(longest > Duration::from_secs(3), "{seed}: {longest:?}");
        }
    }
}
