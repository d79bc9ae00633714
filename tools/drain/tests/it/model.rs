//! The service against a sink that is a model: commits that fail, are lost, are in doubt, break; a store that
//! goes back to an earlier moment. What it holds in the end is the journal, event by event.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kairos_drain::service::{self, Job, Plan};
use kairos_drain::sink::{Batch, Cursor, Pending, Sink, SinkError};
use kairos_drain::source::{Entry, Follow, Run};
use kairos_drain::status::Board;

use super::harness::{Dice, Place, until};
use super::journal::Written;
use super::whole::{end_of, journal_rows};

/// What a server would hold: events and cursor, together.
#[derive(Clone, Default)]
struct Held {
    events: Vec<(u64, u64)>, // run and number
    cursor: Cursor,
}

struct Store {
    now: Held,
    earlier: Vec<Held>, // backups
    dice: Dice,
    is_calm: bool,
    troubles: [u32; 5],
}

/// A sink over a store that outlives it.
struct Model {
    store: Arc<Mutex<Store>>,
    waiting: Vec<(u64, u64)>,
}

impl Sink for Model {
    fn attach(&mut self, _journal: &str) -> Result<Cursor, SinkError> {
        self.recall()
    }

    fn run(&mut self, _run: &Run) -> Result<(), SinkError> {
        Ok(())
    }

    fn add(&mut self, run: &Run, entry: &Entry<'_>) -> Result<(), SinkError> {
        self.waiting.push((run.number, entry.seq));
        Ok(())
    }

    fn pending(&self) -> Pending {
        Pending { events: self.waiting.len(), bytes: self.waiting.len() }
    }

    fn batch(&self) -> Batch {
        Batch { rows: 37, catchup_rows: 211, bytes: 1 << 20, ms: 2 }
    }

    fn commit(&mut self, next: Cursor) -> Result<(), SinkError> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut store = self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fate = if store.is_calm { u64::MAX } else { store.dice.below(30) };
        if fate < 5 {
            store.troubles[usize::try_from(fate).unwrap()] += 1;
        }
        match fate {
            0 => return Err(SinkError::Transient("it is busy".into())),
            1 => return Err(SinkError::InDoubt("the commit was lost".into())),
            3 => panic!("the sink's code breaks (the test wants it to)"),
            4 => {
                // A server restored from a backup, with its cursor.
                let count = u64::try_from(store.earlier.len()).unwrap();
                let which = usize::try_from(store.dice.below(count.max(1))).unwrap();
                if let Some(earlier) = store.earlier.get(which).cloned() {
                    store.earlier.truncate(which + 1);
                    store.now = earlier;
                }
                return Err(SinkError::Transient("it was restored".into()));
            }
            _ => {}
        }
        if store.dice.below(10) == 0 {
            let backup = store.now.clone();
            store.earlier.push(backup);
        }
        store.now.events.extend(waiting);
        store.now.cursor = next;
        if fate == 2 {
            return Err(SinkError::InDoubt("the answer was lost".into()));
        }
        Ok(())
    }

    fn recall(&mut self) -> Result<Cursor, SinkError> {
        self.waiting.clear();
        Ok(self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner).now.cursor)
    }

    fn discard(&mut self) {
        self.waiting.clear();
    }
}

#[test]
fn a_model_of_a_sink_holds_the_journal_whatever_happens() {
    let place = Place::new();
    let store = Arc::new(Mutex::new(Store {
        now: Held::default(),
        earlier: Vec::new(),
        dice: Dice::new(),
        is_calm: false,
        troubles: [0; 5],
    }));
    let mut journal = Written::begin(&place.journal(), 1);
    let stop = Arc::new(AtomicBool::new(false));
    let plan = Plan {
        journal: place.journal(),
        until_caught_up: false,
        stop: Arc::clone(&stop),
        stop_timeout: Duration::from_secs(5),
        catchup_bytes_per_s: 0,
    };
    let made = Arc::clone(&store);
    let job = Job {
        name: "model".into(),
        follow: Follow::Committed,
        paused: Arc::default(),
        make: Box::new(move || Box::new(Model { store: Arc::clone(&made), waiting: Vec::new() })),
    };
    let service = thread::spawn(move || service::run(&job, &plan, &Board::new("model")));
    let read = || store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut run = 1;
    // Until enough has happened, which three hundred rounds see.
    let troubled = || read().troubles.iter().sum::<u32>();
    for round in (0..300).take_while(|round| *round < 30 || troubled() < 10) {
        journal.some(300);
        let before = read().now.cursor.next_seq;
        until("it moves", || {
            read().now.cursor.next_seq != before || read().now.cursor.next_seq > journal.last()
        });
        if round % 7 == 6 {
            run += 1;
            if round % 2 == 0 {
                journal.kill()
            } else {
                journal.end()
            }
            journal = Written::begin(&place.journal(), run);
        }
    }
    journal.end();
    read().is_calm = true;
    let end = end_of(&place.journal());
    until("it holds all", || read().now.cursor == end);
    stop.store(true, Ordering::Relaxed);
    service.join().unwrap();
    let mut wanted: Vec<(u64, u64)> = journal_rows(&place.journal())
        .into_values()
        .flatten()
        .map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap()))
        .collect();
    wanted.sort_unstable();
    let store = read();
    assert_eq!(store.now.events, wanted, "each once, and in order");
    assert!(store.troubles.iter().sum::<u32>() >= 10, "{:?}", store.troubles);
}
