use crate::params::Params;
use crate::strategy::testing::{BTC, ETH, Rig, USDT, problems, spec};
use alloc::vec;

/// Quotes of all three instruments; ETH/USDT comes last and is the change that is looked at.
const QUOTES: &str = "q 49999/50000; @2 q 0.049/0.05; @1 q 2515/2600; ";
const LEG_1: &str = "3: 1 buy 0.01998 BTCUSDT 50000 ioc leg; ";
const LEG_2: &str = "4: 2 buy 0.3992 ETHBTC 0.05 ioc leg; ";
/// What each of these cycles is to make.
const OF: &str = " of 2.985012 ";

fn rig(params: Params) -> Rig {
    let funds = [(USDT, 100_000), (BTC, 10), (ETH, 100)];
    Rig::new(vec![spec(0, "tri_arb", &[0, 1, 2], params)], &funds)
}

fn counter(rig: &Rig, name: &str) -> i64 {
    let mut found = None;
    rig.desk.counters(&mut |_, it, value| {
        if it == name {
            found = Some(value);
        }
    });
    found.expect("a counter of that name")
}

/// The quotes, then `script`; what was wished for, and counters with their values.
#[track_caller]
fn check(params: Params, script: &str, want: &[&str], counters: &[(&str, i64)]) {
    let mut rig = rig(params);
    let found = rig.run(&[QUOTES, script].concat());
    assert_eq!(found, want.concat().trim_end_matches("; "), "{script}");
    for (name, value) in counters {
        assert_eq!(counter(&rig, name), *value, "{script}: {name}");
    }
}

#[test]
fn the_check_vector_of_the_specification() {
    let check = |bid: &str, found: i64| {
        let mut rig = rig(Params::new());
        rig.run(&["q 49999/50000; @2 q 0.049/0.05; @1 q ", bid, "/2600"].concat());
        assert_eq!(counter(&rig, "cycles_found"), found, "bid {bid}");
    };
    check("2515", 1);
    check("2510", 0);
}

#[test]
fn legs_follow_each_other_with_what_the_one_before_gave() {
    let check = |script: &str, want: &[&str], counters: &[(&str, i64)]| {
        check(Params::new(), script, want, counters);
    };
    // All three fill: 1002.984012 USDT come back for 999.999.
    check(
        "f 1; f 2; f 3",
        &[
            LEG_1,
            LEG_2,
            "5: 3 sell 0.3992 ETHUSDT 2515 ioc leg; ",
            &["6: made 2.985012", OF, "leg"].concat(),
        ],
        &[
            ("cycles_complete", 1),
            ("profit_expected_e8", 298_501_200),
            ("profit_realised_e8", 298_501_200),
        ],
    );
    // The first leg finds nothing: nothing is at stake, nothing is unwound.
    let missed = [LEG_1, "4: made 0", OF, "leg"];
    check("c 1", &missed, &[("cycles_missed", 1), ("cycles_complete", 0)]);
    check("d 1", &missed, &[("cycles_missed", 1)]);
    // Half of the first leg: the rest of the cycle is half as large.
    check(
        "f 1 0.00999@50000; c 1; f 2",
        &[LEG_1, "5: 2 buy 0.1996 ETHBTC 0.05 ioc leg; ", "6: 3 sell 0.1996 ETHUSDT 2515 ioc leg"],
        &[("cycles_begun", 1), ("cycles_complete", 0)],
    );
}

#[test]
fn what_a_missing_leg_leaves_is_turned_back_at_once() {
    let check = |script: &str, want: &[&str], counters: &[(&str, i64)]| {
        check(Params::new(), script, want, counters);
    };
    // The second leg is gone: the first is turned back.
    check(
        "f 1; c 2; f 3",
        &[
            LEG_1,
            LEG_2,
            "5: 3 sell 0.01998 BTCUSDT market unwind; ",
            &["6: made -2.01796002", OF, "unwind"].concat(),
        ],
        // 998.98002 - 0.99898002 come back for 999.999.
        &[("cycles_unwound", 1), ("profit_realised_e8", -201_796_002)],
    );
    // The third leg is refused: the market takes what is left.
    check(
        "f 1; f 2; r 3; f 4",
        &[
            LEG_1,
            LEG_2,
            "5: 3 sell 0.3992 ETHUSDT 2515 ioc leg; ",
            "6: 4 sell 0.3992 ETHUSDT market unwind; ",
            &["7: made 2.985012", OF, "unwind"].concat(),
        ],
        &[("cycles_unwound", 1)],
    );
    // Part of the second leg: the third trades that part, then the rest goes back.
    check(
        "f 1; f 2 0.1@0.05; c 2; f 3; f 4",
        &[
            LEG_1,
            LEG_2,
            "6: 3 sell 0.1 ETHUSDT 2515 ioc leg; ",
            "7: 4 sell 0.01497 BTCUSDT market unwind; ",
            // 251.2485 and 747.73654497 for 999.999.
            &["8: made -1.01395503", OF, "unwind"].concat(),
        ],
        &[("cycles_unwound", 1), ("cycles_complete", 0)],
    );
    // An unwinding order that is refused is repeated after 100 ms, not at once.
    check(
        "f 1; c 2; d 3; timer 10; timer 100; f 4",
        &[
            LEG_1,
            LEG_2,
            "5: 3 sell 0.01998 BTCUSDT market unwind; ",
            "8: 4 sell 0.01998 BTCUSDT market reduce_only unwind; ",
            &["9: made -2.01796002", OF, "unwind"].concat(),
        ],
        &[("cycles_unwound", 1), ("cycles_late", 0)],
    );
    // A leg of which nothing is heard is cancelled when the time is over, and counted late.
    check(
        "f 1; u 2; timer 497; timer 1; timer 1",
        &[LEG_1, LEG_2, "7: cancel 2 unwind"],
        &[("cycles_late", 1)],
    );
}

#[test]
fn a_cycle_that_cannot_be_closed_is_given_up_and_counted() {
    let mut rig = rig(Params::new());
    rig.run(&[QUOTES, "f 1; c 2"].concat());
    for order in 3..3 + super::UNWINDS_MAX {
        let found = rig.run(&alloc::format!("d {order}; timer 100"));
        let ended = found.ends_with(&[": made -999.999", OF, "unwind"].concat());
        assert_eq!(ended, order == 2 + super::UNWINDS_MAX, "{order}: {found}");
        assert_ne!(ended, found.contains(" sell 0.01998 BTCUSDT market "), "{order}: {found}");
    }
    assert_eq!(counter(&rig, "cycles_given_up"), 1);
    assert_eq!(counter(&rig, "cycles_late"), 1);
}

#[test]
fn parallel_legs_go_at_once_and_a_missing_one_is_made_good() {
    let check = |script: &str, want: &[&str], counters: &[(&str, i64)]| {
        let params = Params::new().with("leg_mode", "parallel");
        check(params, script, want, counters);
    };
    const ALL: &str = "3: 1 buy 0.01998 BTCUSDT 50000 ioc leg; \
                       3: 2 buy 0.3992 ETHBTC 0.05 ioc leg; \
                       3: 3 sell 0.3992 ETHUSDT 2515 ioc leg; ";
    check("f 1; f 2; f 3", &[ALL, "6: made 2.985012", OF, "leg"], &[("cycles_complete", 1)]);
    check("c 1; c 2; c 3", &[ALL, "6: made 0", OF, "leg"], &[("cycles_missed", 1)]);
    // Without the first leg the BTC that the second one spent are bought back.
    check(
        "c 1; f 2; f 3; f 4",
        &[ALL, "6: 4 buy 0.01998 BTCUSDT market unwind; 7: made 2.985012", OF, "unwind"],
        &[("cycles_unwound", 1)],
    );
    // Without the second leg the first is turned back and the ETH are bought back.
    check(
        "f 1; c 2; f 3; f 4; f 5",
        &[
            ALL,
            "6: 4 sell 0.01998 BTCUSDT market unwind; ",
            "7: 5 buy 0.3992 ETHUSDT market reduce_only unwind; 8: made -37.99186802",
            OF,
            "unwind",
        ],
        &[("cycles_unwound", 1)],
    );
}

#[test]
fn old_prices_untrusted_books_and_small_sizes_are_left_alone() {
    let check = |params: Params, script: &str, counted: &[(&str, i64)]| {
        let mut rig = rig(params);
        assert_eq!(rig.run(script), "", "{script}");
        for (name, value) in counted {
            assert_eq!(counter(&rig, name), *value, "{script}: {name}");
        }
    };
    let none = [("cycles_found", 0)];
    let new = Params::new;
    // One edge is 50 ms old.
    let old = "q 49999/50000; timer 48; @2 q 0.049/0.05; @1 q 2515/2600";
    check(new(), old, &none);
    check(new(), "q 49999/50000; @2 q 0.049/0.05; @2 gap; @1 q 2515/2600", &none);
    check(new(), "q 49999/50000; @2 q 0.049/0.05; down; up; @1 q 2515/2600", &none);
    check(new().with("fee_bps", 20), QUOTES, &none);
    check(new().with("min_profit_threshold", "0.003"), QUOTES, &none);
    let small = [("cycles_found", 1), ("cycles_too_small", 1)];
    check(new().with("max_leg_notional", "0.4"), QUOTES, &small);
    // Nothing to start with anywhere.
    let mut poor = Rig::new(vec![spec(0, "tri_arb", &[0, 1, 2], new())], &[]);
    assert_eq!(poor.run(QUOTES), "");
}

#[test]
fn the_smallest_offer_on_any_leg_bounds_the_cycle() {
    let check = |quotes: &str, want: &str| assert_eq!(rig(Params::new()).run(quotes), want);
    check(
        "q 49999/50000x0.001; @2 q 0.049/0.05; @1 q 2515/2600",
        "3: 1 buy 0.001 BTCUSDT 50000 ioc leg",
    );
    check(
        "q 49999/50000; @2 q 0.049/0.05; @1 q 2515x0.1/2600",
        "3: 1 buy 0.005 BTCUSDT 50000 ioc leg",
    );
}

#[test]
fn one_cycle_at_a_time() {
    let again = [QUOTES, "@1 q 2516/2600; @1 q 2517/2600"].concat();
    assert_eq!(rig(Params::new()).run(&again), LEG_1.trim_end_matches("; "));
}

#[test]
fn instruments_without_a_triangle_are_a_problem() {
    let found = problems("tri_arb", &[0, 1], Params::new());
    assert_eq!(found.len(), 1, "{found:?}");
    let wrong = Params::new().with("leg_mode", "random").with("fee_bsp", 1);
    assert_eq!(problems("tri_arb", &[0, 1, 2], wrong).len(), 2);
}
