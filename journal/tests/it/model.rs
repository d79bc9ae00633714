//! Any order of appending, flushing, ending, dying, recovering and tailing equals a plain list.

use std::path::Path;

use kairos_journal::{Frame, Journal, Keeper, Mode, Reader, Verdict, Writer, recover, verify};
use proptest::prelude::*;

use crate::common::{Event, end, events, open, put, settle};

#[derive(Clone, Debug)]
enum Step {
    Append { kind: u16, stamps: Vec<u64>, payload: Vec<u8> },
    Mark(Vec<u8>),
    Turn,
    Settle,
    Tail,
    End,
    Die,
    Recover,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..3000);
    let stamps = proptest::collection::vec(any::<u64>(), 0..=4);
    prop_oneof![
        30 => (1_u16..0x4000, stamps, bytes)
            .prop_map(|(kind, stamps, payload)| Step::Append { kind, stamps, payload }),
        2 => proptest::collection::vec(any::<u8>(), 0..100).prop_map(Step::Mark),
        6 => Just(Step::Turn),
        2 => Just(Step::Settle),
        4 => Just(Step::Tail),
        1 => Just(Step::End),
        1 => Just(Step::Die),
        1 => Just(Step::Recover),
    ]
}

struct World<'a> {
    dir: &'a Path,
    model: Vec<Event>,
    live: Option<(Writer, Keeper)>,
    tail: Reader,
    tailed: usize,
    died: bool, // the last run did not end
}

impl World<'_> {
    fn take(&mut self, step: Step) {
        match step {
            Step::Append { kind, stamps, payload } => {
                let (writer, keeper) = self.live();
                let frame =
                    Frame { ts: 1, kind, schema: 1, lane: 0, ext: &stamps, payload: &payload };
                let seq = put(writer, keeper, &frame);
                self.model.push((seq, kind, stamps, payload));
            }
            Step::Mark(payload) => {
                let (writer, _) = self.live();
                // Without a segment a mark is refused, and that is all.
                let _ = writer.mark(0, &payload);
            }
            Step::Turn => drop(self.live().1.turn()),
            Step::Settle => {
                let (writer, keeper) = self.live();
                settle(writer, keeper);
            }
            Step::Tail => self.follow(),
            Step::End => {
                if let Some((writer, keeper)) = self.live.take() {
                    end(writer, keeper);
                    self.died = false;
                }
            }
            Step::Die => {
                self.died |= self.live.take().is_some();
            }
            Step::Recover => {
                self.died |= self.live.take().is_some();
                let report = recover(self.dir, Mode::TolerateTornTail, false).unwrap();
                let expected = if self.died { Verdict::Crashed } else { Verdict::Clean };
                assert!(report.verdict == expected || self.model.is_empty(), "{report:?}");
            }
        }
    }

    fn live(&mut self) -> (&mut Writer, &mut Keeper) {
        if self.live.is_none() {
            let (writer, keeper, opened) = open(self.dir);
            assert_eq!(opened.first_seq, self.model.len() as u64 + 1);
            self.live = Some((writer, keeper));
        }
        let (writer, keeper) = self.live.as_mut().unwrap();
        (writer, keeper)
    }

    /// The reader that follows sees everything committed, at once, and nothing else.
    fn follow(&mut self) {
        while let Some(frame) = self.tail.next().unwrap() {
            if !frame.is_physical() {
                let found = (frame.seq, frame.kind, frame.ext().to_vec(), frame.payload.to_vec());
                assert_eq!(found, self.model[self.tailed]);
                self.tailed += 1;
            }
        }
        assert_eq!(self.tailed, self.model.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_a_list(steps in proptest::collection::vec(step(), 1..250)) {
        let dir = tempfile::tempdir().unwrap();
        let tail = Journal::open(dir.path()).unwrap().reader();
        let mut world =
            World { dir: dir.path(), model: Vec::new(), live: None, tail, tailed: 0, died: false };
        for step in steps {
            world.take(step);
        }
        world.follow();
        world.live = None;
        prop_assert!(!verify(dir.path()).unwrap().is_damaged());
        prop_assert_eq!(events(dir.path()), world.model);
    }
}
