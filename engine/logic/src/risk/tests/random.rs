//! No sequence of events and intents passes the limits: against a naive recomputation.

use proptest::prelude::*;

use super::*;
use crate::ledger::share;

#[derive(Clone, Debug)]
enum Step {
    Place(Intent),
    Fill(usize, i64),
    End(usize, bool),
    Unknown(usize),
    Quote(i64),
    Wait(u64),
    Command(Verb, i64),
}

fn intent() -> impl Strategy<Value = Intent> {
    let flags = prop::bool::weighted(0.2);
    (prop::bool::ANY, 0_i64..400, 9_300_i64..10_700, flags, prop::bool::weighted(0.2)).prop_map(
        |(buys, qty, price, reduces, at_market)| {
            let it = limit(if buys { Side::Buy } else { Side::Sell }, qty, price);
            let it = if reduces { exit(it) } else { it };
            if at_market { market(it) } else { it }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let command = prop_oneof![
        3 => Just((Verb::Resume, 0)),
        1 => Just((Verb::Halt, 0)),
        1 => Just((Verb::Reduce, 0)),
    ];
    prop_oneof![
        12 => intent().prop_map(Step::Place),
        8 => (0_usize..8, 1_i64..300).prop_map(|(n, qty)| Step::Fill(n, qty)),
        3 => (0_usize..8, prop::bool::ANY).prop_map(|(n, rejected)| Step::End(n, rejected)),
        1 => (0_usize..8).prop_map(Step::Unknown),
        3 => (9_700_i64..10_300).prop_map(Step::Quote),
        2 => (1_u64..900).prop_map(Step::Wait),
        1 => command.prop_map(|(verb, argument)| Step::Command(verb, argument)),
    ]
}

/// An order as a careful clerk would note it.
#[derive(Clone, Debug)]
struct Noted {
    intent: Intent, // as it left
    left: i64,
    notional: i64,
}

struct Clerk {
    open: Vec<Noted>,
    sent_at: Vec<u64>,
    btc: i64,
    cash: i64,
    mid: i64,
}

impl Clerk {
    fn base(qty: i64) -> i64 {
        qty * UNIT / 100
    }
    fn cost(intent: &Intent, qty: i64) -> i64 {
        let value = intent.price.0 * qty * UNIT / 10_000;
        value + value / 1_000 // ticks and lots of 0.10: the fee is a whole number of units
    }
    fn open_base(&self, side: Side) -> i64 {
        self.open.iter().filter(|it| it.intent.side == side).map(|it| Self::base(it.left)).sum()
    }
    fn locked_cash(&self) -> i64 {
        let buys = self.open.iter().filter(|it| it.intent.side == Side::Buy);
        buys.map(|it| Self::cost(&it.intent, it.left)).sum()
    }
    fn gross(&self) -> i64 {
        let part = |it: &Noted| share(Money(it.notional), it.left, it.intent.qty.0).0;
        let held = (i128::from(self.btc) * i128::from(self.mid) / 100).abs();
        i64::try_from(held).unwrap() + self.open.iter().map(part).sum::<i64>()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_sequence_passes_the_limits(
        steps in prop::collection::vec(step(), 1..250),
        allow_short in prop::bool::ANY,
        open_max in 1_u32..8,
        per_second in 1_u32..6,
        gross_max in 100_i64..800,
    ) {
        let limits = Limits {
            max_order_notional: Money(250 * UNIT),
            max_position_qty: Money(3 * UNIT),
            max_notional: Money(gross_max * UNIT),
            max_open_orders: open_max,
            max_orders_per_second: per_second,
            allow_short,
            ..Limits::default()
        };
        let mut bench = Bench::new(limits.clone());
        let mut clerk =
            Clerk { open: Vec::new(), sent_at: Vec::new(), btc: 0, cash: 1_000 * UNIT, mid: 10_000 };
        for step in steps {
            match step {
                Step::Place(intent) => {
                    let before = bench.risk.state();
                    let (intent, said) = bench.place(intent);
                    if said.verdict == Verdict::Denied {
                        continue;
                    }
                    let intent = Intent { price: said.price, qty: said.qty, ..intent };
                    let reduces = intent.flags.has(OrderFlags::REDUCE_ONLY);
                    prop_assert!(reduces || before == RiskState::Running);
                    let (left, notional, at) = (said.qty.0, said.notional.0, bench.now);
                    clerk.open.push(Noted { intent, left, notional });
                    clerk.sent_at.push(at);

                    let worst_long = clerk.btc + clerk.open_base(Side::Buy);
                    let worst_short = clerk.open_base(Side::Sell) - clerk.btc;
                    match intent.side {
                        Side::Buy => prop_assert!(worst_long <= limits.max_position_qty.0),
                        Side::Sell => prop_assert!(worst_short <= limits.max_position_qty.0),
                    }
                    if reduces {
                        let worst = if intent.side == Side::Buy { worst_long } else { worst_short };
                        prop_assert!(worst <= 0, "an exit never turns the position");
                    } else {
                        prop_assert!(notional <= limits.max_order_notional.0);
                        prop_assert!(clerk.gross() <= limits.max_notional.0);
                    }
                    if intent.side == Side::Buy {
                        prop_assert!(clerk.locked_cash() <= clerk.cash);
                    } else if !allow_short {
                        let there = 2 * UNIT + clerk.btc;
                        prop_assert!(clerk.open_base(Side::Sell) <= there);
                    }
                    prop_assert!(clerk.open.len() <= open_max as usize);
                    let recent = clerk.sent_at.iter().filter(|it| at - **it < 1_000 * MS).count();
                    prop_assert!(recent <= per_second as usize);
                }
                Step::Fill(n, qty) => {
                    let Some(place) = n.checked_rem(clerk.open.len()) else { continue };
                    let it = &mut clerk.open[place];
                    let qty = qty.min(it.left);
                    it.left -= qty;
                    let (intent, over) = (it.intent, it.left == 0);
                    if over {
                        clerk.open.remove(place);
                    }
                    let value = intent.price.0 * qty * UNIT / 10_000;
                    // Fills need not be whole lots: the fee is rounded as the instrument rounds it.
                    let fee = table().instruments[0].fee(Money(value), true).unwrap().0;
                    clerk.btc += intent.side.sign() * Clerk::base(qty);
                    clerk.cash -= intent.side.sign() * value + fee;
                    bench.fill(&intent, qty);
                }
                Step::End(n, rejected) => {
                    let Some(place) = n.checked_rem(clerk.open.len()) else { continue };
                    let it = clerk.open.remove(place);
                    let fresh = it.left == it.intent.qty.0;
                    let how = if rejected && fresh {
                        (ReportState::Rejected, Code::PostOnlyWouldCross)
                    } else {
                        (ReportState::Cancelled, Code::UserCancel)
                    };
                    bench.report(it.intent.order, how.0, how.1);
                }
                Step::Unknown(n) => {
                    let Some(place) = n.checked_rem(clerk.open.len()) else { continue };
                    bench.report(clerk.open[place].intent.order, ReportState::Unknown, Code::None);
                }
                Step::Quote(mid) => {
                    clerk.mid = mid;
                    bench.quote(BTCUSDT, mid - 100, mid + 100);
                }
                Step::Wait(ms) => {
                    bench.wait(ms);
                    let mid = clerk.mid;
                    bench.quote(BTCUSDT, mid - 100, mid + 100);
                }
                Step::Command(verb, argument) => drop(bench.command(verb, argument)),
            }
            let locked: i64 = clerk.open.iter()
                .filter(|it| it.intent.side == Side::Buy)
                .map(|it| share(Money(Clerk::cost(&it.intent, it.intent.qty.0)), it.left, it.intent.qty.0).0)
                .sum();
            prop_assert_eq!(bench.locked(BTCUSDT, Side::Buy), locked);
            prop_assert_eq!(bench.locked(BTCUSDT, Side::Sell), clerk.open_base(Side::Sell));
            prop_assert_eq!(bench.total(BTCUSDT, Side::Buy), clerk.cash);
            prop_assert_eq!(bench.total(BTCUSDT, Side::Sell), 2 * UNIT + clerk.btc);
            prop_assert_eq!(bench.risk.open_orders(), clerk.open.len());
            prop_assert_eq!(bench.risk.counts().faults, 0);
        }
    }
}
