//! Whatever happens: limits hold, money is conserved, every command is answered once.

use std::collections::BTreeMap;

use kairos_logic::event::ReportState;
use proptest::prelude::*;

use super::*;
use crate::sim::paper::MakerModel;

/// Something that may happen, in the words of the scenarios.
fn line() -> impl Strategy<Value = String> {
    let level = (90_i64..110, 0_i64..8).prop_map(|(price, qty)| format!("{price}x{qty}"));
    let side = prop_oneof![Just("buy"), Just("sell")];
    let tif = prop_oneof![Just("gtc"), Just("gtc"), Just("ioc"), Just("fok")];
    let flag = prop_oneof![4 => Just("-"), 1 => Just("post")];
    let limit = (side.clone(), 1_i64..12, 92_i64..108, tif.clone(), flag)
        .prop_map(|(side, qty, price, tif, flag)| format!("{side} {qty}@{price} {tif} {flag}"));
    let bounded = (side.clone(), 1_i64..12, 92_i64..108)
        .prop_map(|(side, qty, price)| format!("{side} {qty}<{price}"));
    let market =
        (side.clone(), 1_i64..12, tif).prop_map(|(side, qty, tif)| format!("{side} {qty} {tif}"));
    prop_oneof![
        6 => limit,
        1 => bounded,
        2 => market,
        3 => (1_u64..40).prop_map(|id| format!("cancel {id}")),
        3 => level.clone().prop_map(|level| format!("bid {level}")),
        3 => level.clone().prop_map(|level| format!("ask {level}")),
        4 => (side, level).prop_map(|(side, level)| format!("trade {side} {level}"))
            .prop_filter("trades have a size", |it| !it.ends_with("x0")),
        3 => (92_i64..107, 1_i64..4, 1_i64..8, 1_i64..8)
            .prop_map(|(bid, gap, b, a)| format!("quote {bid}x{b} {}x{a}", bid + gap)),
        2 => (93_i64..107, 1_i64..9)
            .prop_map(|(mid, qty)| format!("book {}x{qty} {}x5 / {}x{qty} {}x5",
                mid - 1, mid - 2, mid + 1, mid + 2)),
        1 => Just("gap".to_owned()),
    ]
}

/// What was asked for, by order id, and how many cancels were sent.
fn wishes(lines: &[String]) -> (BTreeMap<u64, Decision>, usize) {
    let mut orders = BTreeMap::new();
    let mut cancels = 0;
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [side @ ("buy" | "sell"), order @ ..] => {
                let id = orders.len() as u64 + 1;
                orders.insert(id, order_of(id, side_of(side), order));
            }
            ["cancel", _] => cancels += 1,
            _ => {}
        }
    }
    (orders, cancels)
}

fn play(lines: &[String], options: PaperOptions) -> Bench {
    let mut bench = Bench::new(options);
    bench.line("book 98x5 99x5 / 101x5 102x5");
    for line in lines {
        bench.line(line);
        for currency in [USDT, BTC] {
            let (total, free) = bench.venue.balance(VENUE, currency).unwrap();
            assert!(free <= total, "{line}");
            assert!(free >= Money(-1_000), "{line}: {free} is free");
        }
    }
    let mut end = Vec::new();
    bench.venue.cancel_all(bench.now, Code::ShutdownCancel, &mut |event| {
        end.push(event);
    });
    bench.reports.extend(end);
    bench
}

/// What the reports say about one order.
#[derive(Default)]
struct Story {
    filled: i64,
    ends: usize,
}

fn check_all(lines: &[String], options: PaperOptions) {
    let start = options.balances.clone();
    let (orders, cancels) = wishes(lines);
    let bench = play(lines, options);
    assert!(bench.venue.is_idle());
    assert_eq!(bench.venue.open(), 0);
    assert!(bench.reports.is_sorted_by_key(|report| report.at));
    let mut stories: BTreeMap<u64, Story> = BTreeMap::new();
    let (mut usdt, mut coins, mut answered_cancels) = (start[0].2.0, start[1].2.0, 0);
    for report in &bench.reports {
        match report.news() {
            News::Fill { order, side, price, qty, fee, maker } => {
                let wish = &orders[&order.0];
                if wish.price.0 > 0 {
                    let worse = (price.0 - wish.price.0) * side.sign();
                    assert!(worse <= 0, "{} filled at {price:?}", order.0);
                    assert!(!maker || worse == 0, "makers fill at their own price");
                }
                assert!(qty.0 > 0 && side == wish.side);
                let value = price.0 * qty.0 * ONE;
                assert_eq!(fee.0, value / if maker { 1_000 } else { 500 });
                usdt -= side.sign() * value + fee.0;
                coins += side.sign() * qty.0 * ONE;
                let story = stories.entry(order.0).or_default();
                assert_eq!(story.ends, 0, "a fill after the end");
                story.filled += qty.0;
                if story.filled == wish.qty.0 {
                    story.ends += 1;
                }
            }
            News::Report { order, state, remaining, code, .. } => match state {
                ReportState::Rejected | ReportState::Cancelled => {
                    let story = stories.entry(order.0).or_default();
                    story.ends += 1;
                    assert_eq!(remaining.0, orders[&order.0].qty.0 - story.filled);
                    answered_cancels += usize::from(code == Code::UserCancel);
                }
                ReportState::CancelRejected => answered_cancels += 1,
                _ => assert_eq!(state, ReportState::Acked),
            },
            other => panic!("{other:?}"),
        }
    }
    for id in orders.keys() {
        let ends = stories.get(id).map_or(0, |story| story.ends);
        assert_eq!(ends, 1, "order {id} ends {ends} times in {}", bench.words());
    }
    assert_eq!(answered_cancels, cancels);
    let balance = |currency| bench.venue.balance(VENUE, currency).unwrap();
    assert_eq!(balance(USDT), (Money(usdt), Money(usdt)));
    assert_eq!(balance(BTC), (Money(coins), Money(coins)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn limits_hold_money_is_conserved_and_every_command_is_answered_once(
        lines in prop::collection::vec(line(), 1..120),
        seed: u64,
        latency_ns in 0_u64..6,
        jitter_ns in 0_u64..6,
        response_latency_ns in 0_u64..4,
        lucky: bool,
        rich: bool,
    ) {
        let maker_model = if lucky { MakerModel::Probability } else { MakerModel::Queue };
        let (dollars, coins) = if rich { (1_000_000, 10_000) } else { (3_000, 20) };
        check_all(&lines, PaperOptions {
            latency_ns,
            jitter_ns,
            response_latency_ns,
            maker_model,
            maker_queue_eta: 4.0,
            seed,
            balances: vec![(VENUE, USDT, Money(dollars * ONE)), (VENUE, BTC, Money(coins * ONE))],
            ..options()
        });
    }

    #[test]
    fn the_same_calls_give_the_same_reports(
        lines in prop::collection::vec(line(), 1..60),
        seed: u64,
    ) {
        let options = PaperOptions { seed, jitter_ns: 5, ..options() };
        let (one, two) = (play(&lines, options.clone()), play(&lines, options));
        prop_assert_eq!(one.reports, two.reports);
    }
}
