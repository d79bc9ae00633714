use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const QTY: Qty = Qty(3);
const FULL: Answer = Answer::Filled(Qty(3));
const PART: Answer = Answer::Filled(Qty(1));
const TOO_MUCH: Answer = Answer::Filled(Qty(4));
const NOTHING: Answer = Answer::Filled(Qty(0));

const ANSWERS: [Answer; 12] = [
    Answer::Denied,
    Answer::Sent,
    Answer::Acked,
    PART,
    FULL,
    TOO_MUCH,
    NOTHING,
    Answer::Rejected,
    Answer::Cancelled,
    Answer::Expired,
    Answer::Unknown,
    Answer::CancelRejected,
];

/// Every answer in turn, after `life`, until `depth` answers were heard.
fn walk(life: Life, ends: u32, depth: u32, visited: &mut u64) {
    *visited += 1;
    assert!(ends <= 1, "{life:?} ended {ends} times");
    assert_eq!(life.is_over(), ends == 1, "{life:?}");
    let in_range = 0 <= life.filled().0 && life.filled() <= life.qty();
    assert!(in_range, "{life:?}");
    assert_eq!(life.filled() == life.qty(), life.state() == OrderState::Filled, "{life:?}");
    if life.is_over() {
        assert_eq!(life.open_qty(), Qty(0));
        assert!(!life.is_uncertain());
    } else {
        assert_eq!(life.open_qty().0, life.qty().0 - life.filled().0);
    }
    if depth == 0 {
        return;
    }
    for answer in ANSWERS {
        let mut next = life;
        let heard = next.hear(answer);
        if life.is_over() {
            let state = life.state();
            assert_eq!(heard, Err(Fault::AfterEnd { state, answer }));
            assert_eq!(next, life, "the end absorbs nothing");
        }
        if answer == Answer::Unknown {
            assert_eq!(next.open_qty(), life.open_qty(), "no answer frees nothing");
        }
        assert!(next.filled() >= life.filled(), "nothing unfills");
        let ended = u32::from(next.is_over() && !life.is_over());
        walk(next, ends + ended, depth - 1, visited);
    }
}

#[test]
fn every_sequence_of_six_answers_ends_at_most_once_and_never_overfills() {
    let mut visited = 0;
    walk(Life::new(QTY), 0, 6, &mut visited);
    assert_eq!(visited, (0..=6).map(|n| 12_u64.pow(n)).sum::<u64>());
}

#[test]
fn every_unfinished_order_can_still_end_in_one_answer() {
    for answers in [&[][..], &[Answer::Sent], &[Answer::Acked], &[PART], &[Answer::Unknown]] {
        let mut life = Life::new(QTY);
        for &answer in answers {
            life.hear(answer).unwrap();
        }
        assert!(!life.is_over());
        life.hear(Answer::Cancelled).unwrap();
        assert_eq!(life.state(), OrderState::Cancelled, "{answers:?}");
    }
}

#[test]
fn the_life_of_an_order() {
    use OrderState as S;
    let check = |answers: &[Answer], state: S, uncertain: bool, open: i64, faults: usize| {
        let mut life = Life::new(QTY);
        let found = answers.iter().filter(|it| life.hear(**it).is_err()).count();
        let is = (life.state(), life.is_uncertain(), life.open_qty().0, found);
        assert_eq!(is, (state, uncertain, open, faults), "{answers:?}");
    };
    use Answer::{Acked, CancelRejected, Cancelled, Denied, Expired, Rejected, Sent, Unknown};
    check(&[], S::New, false, 3, 0);
    check(&[Denied], S::RiskRejected, false, 0, 0);
    check(&[Sent, Denied], S::Sent, false, 3, 1);
    check(&[Sent, Acked, PART, PART, PART], S::Filled, false, 0, 0);
    check(&[Sent, Acked, PART, Cancelled], S::Cancelled, false, 0, 0);
    check(&[Sent, Acked, Cancelled, PART], S::Cancelled, false, 0, 1);
    check(&[Sent, PART, Acked], S::PartFilled, false, 2, 0);
    check(&[Sent, Acked, Acked], S::Acked, false, 3, 1);
    check(&[Sent, Acked, Sent], S::Acked, false, 3, 1);
    check(&[Sent, Unknown], S::Sent, true, 3, 0);
    check(&[Sent, Unknown, Unknown, Acked], S::Acked, false, 3, 0);
    check(&[Sent, Acked, Unknown], S::Acked, true, 3, 0);
    check(&[Sent, Acked, Unknown, Acked], S::Acked, false, 3, 0);
    check(&[Unknown, FULL], S::Filled, false, 0, 0);
    check(&[Sent, Rejected], S::Rejected, false, 0, 0);
    check(&[Sent, Acked, PART, Rejected], S::PartFilled, false, 2, 1);
    check(&[Sent, Acked, CancelRejected], S::Acked, false, 3, 0);
    check(&[Sent, Acked, Expired], S::Expired, false, 0, 0);
    check(&[Sent, Acked, TOO_MUCH], S::Filled, false, 0, 1);
    check(&[Sent, NOTHING], S::Sent, false, 3, 1);
}

#[test]
fn a_table_is_full_at_its_capacity_and_usable_again_after_a_removal() {
    let mut table = OpenOrders::new(5);
    assert_eq!(table.capacity(), 8);
    for n in 0..8 {
        assert_eq!(table.insert(OrderId(n), n), Ok(()));
    }
    assert!(table.is_full());
    assert_eq!(table.insert(OrderId(8), 8), Err(InsertError::Full { capacity: 8 }));
    assert_eq!(table.insert(OrderId(3), 0), Err(InsertError::Duplicate(OrderId(3))));
    assert_eq!(table.remove(OrderId(3)), Some(3));
    assert_eq!(table.remove(OrderId(3)), None);
    assert_eq!(table.insert(OrderId(8), 8), Ok(()));
    let ids: Vec<u64> = table.iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [0, 1, 2, 4, 5, 6, 7, 8], "in the order of insertion");
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Remove(u64),
    Change(u64),
    RetainOdd,
}

fn step() -> impl Strategy<Value = Step> {
    // Few ids, so that they meet; shifted ones, so that homes collide.
    let id = (0_u64..24, prop::bool::ANY).prop_map(|(n, high)| if high { n << 40 } else { n });
    prop_oneof![
        6 => id.clone().prop_map(Step::Insert),
        4 => id.clone().prop_map(Step::Remove),
        2 => id.prop_map(Step::Change),
        1 => Just(Step::RetainOdd),
    ]
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_list(steps in prop::collection::vec(step(), 1..400)) {
        let mut table = OpenOrders::new(16);
        let mut list: Vec<(u64, u64)> = Vec::new();
        for (n, step) in (0_u64..).zip(steps) {
            match step {
                Step::Insert(id) => {
                    let there = list.iter().any(|it| it.0 == id);
                    let want = if there {
                        Err(InsertError::Duplicate(OrderId(id)))
                    } else if list.len() == 16 {
                        Err(InsertError::Full { capacity: 16 })
                    } else {
                        list.push((id, n));
                        Ok(())
                    };
                    prop_assert_eq!(table.insert(OrderId(id), n), want);
                }
                Step::Remove(id) => {
                    let place = list.iter().position(|it| it.0 == id);
                    let want = place.map(|place| list.remove(place).1);
                    prop_assert_eq!(table.remove(OrderId(id)), want);
                }
                Step::Change(id) => {
                    if let Some(value) = table.get_mut(OrderId(id)) {
                        *value = n;
                    }
                    if let Some(it) = list.iter_mut().find(|it| it.0 == id) {
                        it.1 = n;
                    }
                }
                Step::RetainOdd => {
                    table.retain(|_, value| *value % 2 == 1);
                    list.retain(|it| it.1 % 2 == 1);
                }
            }
            let found: Vec<(u64, u64)> = table.iter().map(|(id, value)| (id.0, *value)).collect();
            prop_assert_eq!(&found, &list);
            prop_assert_eq!(table.len(), list.len());
            prop_assert_eq!(table.is_full(), list.len() == 16);
            let by_id: BTreeMap<u64, u64> = list.iter().copied().collect();
            for id in (0..24).chain((0..24).map(|n| n << 40)) {
                prop_assert_eq!(table.get(OrderId(id)), by_id.get(&id));
            }
            let mut next = table.first();
            for &(id, _) in &list {
                prop_assert_eq!(next, Some(OrderId(id)));
                next = next.and_then(|it| table.after(it));
            }
            prop_assert_eq!(next, None);
        }
    }
}
