use super::*;
use crate::params::Params;
use crate::strategy::testing::{BTC, Rig, USDT, VENUE, money, spec, table};
use alloc::string::ToString;

fn momentum(id: u8, instruments: &[u16]) -> StrategySpec {
    spec(id, "momentum", instruments, Params::new())
}

fn rig(specs: Vec<StrategySpec>) -> Rig {
    Rig::new(specs, &[(USDT, 10_000), (BTC, 1)])
}

#[test]
fn strategies_are_told_in_order_and_only_what_concerns_them() {
    let mut rig = rig(vec![momentum(0, &[0]), momentum(1, &[1]), momentum(2, &[0])]);
    assert_eq!(
        rig.run("t 100; t 101; @1 t 7; @1 t 8"),
        "2: 1 buy 0.01 BTCUSDT market entry; 2: 2 buy 0.01 BTCUSDT market entry; \
         4: 3 buy 0.01 ETHUSDT market entry"
    );
    // A fill moves the position of its own strategy alone.
    rig.run("f 2 0.01@101");
    let held = |id| rig.desk.accounts().position(StrategyId(id), InstrumentId(0));
    assert_eq!([held(0), held(1), held(2)], [Qty(0), Qty(0), Qty(1_000_000)]);
}

#[test]
fn the_same_events_give_the_same_wishes_and_others_do_not() {
    let play = |script: &str| {
        let maker = spec(1, "market_maker", &[0], Params::new());
        rig(vec![momentum(0, &[0]), maker]).run(script)
    };
    let script = "q 99/101; t 100; t 101; f 3 0.01@101; a 1; t 100; timer 6000; q 98/99; c 1; c 2";
    assert!(!play(script).is_empty());
    assert_eq!(play(script), play(script));
    assert_ne!(play(script), play(&script.replace("98/99", "97/99")));
}

#[test]
fn open_orders_reserve_and_their_end_frees_exactly_that() {
    let free = |rig: &Rig| rig.desk.accounts().available(VENUE, USDT);
    // A market buy of 0.01 at an ask of 101 and a fee of 10 bps.
    let spent = Money(101_101_000);
    for end in ["d 1", "s 1; c 1", "s 1; a 1; r 1"] {
        let mut rig = rig(vec![momentum(0, &[0])]);
        rig.run("q 99/101; t 100; t 101");
        assert_eq!(free(&rig).0, money(10_000).0 - spent.0, "{end}");
        rig.run(end);
        assert_eq!(free(&rig), money(10_000), "{end}");
        assert_eq!(rig.desk.open_orders().count(), 0, "{end}");
    }
    // A fill turns what was set aside into what was paid; doubt frees nothing.
    let mut rig = rig(vec![momentum(0, &[0])]);
    rig.run("q 99/101; t 100; t 101; u 1");
    assert_eq!(free(&rig).0, money(10_000).0 - spent.0);
    rig.run("f 1 0.004@101");
    assert_eq!(free(&rig).0, money(10_000).0 - spent.0);
    rig.run("f 1 0.006@101");
    assert_eq!(free(&rig).0, money(10_000).0 - spent.0);
    assert_eq!(rig.desk.open_orders().count(), 0);
}

#[test]
fn a_fill_after_the_end_reaches_its_strategy_all_the_same() {
    let mut rig = rig(vec![momentum(0, &[0])]);
    rig.run("q 99/101; t 100; t 101; s 1; c 1; f 1 0.01@101");
    let held = rig.desk.accounts().position(StrategyId(0), InstrumentId(0));
    assert_eq!(held, Qty(1_000_000));
    let want = DeskCounts { faults: 1, ..DeskCounts::default() };
    assert_eq!(rig.desk.counts(), want, "the life of the order was over");
}

#[test]
fn a_denied_cancel_does_not_end_an_order_that_has_left() {
    let maker = spec(0, "market_maker", &[0], Params::new());
    let mut rig = rig(vec![maker]);
    rig.run("q 99.99/100.01; s 1; a 1; s 2; a 2; halt; d 1");
    let open: Vec<_> = rig.desk.open_orders().map(|it| it.id.counter()).collect();
    assert_eq!(open, [1, 2]);
    // The cancel may be tried again, but not at the pace of its refusals.
    assert_eq!(rig.run("timer 1"), "");
    assert_eq!(rig.run("timer 100"), "9: cancel 1 risk");
}

#[test]
fn a_cancel_that_crossed_the_end_of_its_order_is_no_fault() {
    let faults = |answers: &str| {
        let maker = spec(0, "market_maker", &[0], Params::new());
        let mut rig = rig(vec![maker]);
        let asked = rig.run("q 99.99/100.01; s 1; a 1; s 2; a 2; halt");
        assert!(asked.contains("cancel 1"), "{asked}");
        rig.run(answers);
        rig.desk.counts().faults
    };
    // Filled while its cancel was under way: the venue refuses what is over.
    assert_eq!(faults("f 1; x 1"), 0);
    assert_eq!(faults("c 1; x 1"), 0);
    // Any other answer to what is over is.
    assert_eq!(faults("f 1; c 1"), 1);
    assert_eq!(faults("f 1; a 1"), 1);
}

#[test]
fn a_strategy_that_is_switched_off_keeps_watching_but_enters_nothing() {
    let mut rig = rig(vec![momentum(0, &[0])]);
    assert_eq!(rig.run("t 100; off 0; t 101"), "");
    assert!(!rig.desk.enabled(StrategyId(0)));
    assert_eq!(rig.run("on 0; t 102"), "5: 1 buy 0.01 BTCUSDT market entry");
    // Its open entry is cancelled; with a position the exit still goes.
    assert_eq!(rig.run("off 0"), "6: cancel 1 operator");
    assert_eq!(rig.run("f 1 0.01@102; t 90"), "8: 2 sell 0.01 BTCUSDT market reduce_only exit");
    assert_eq!(rig.run("off 7; on -1"), "", "no such strategy");
}

#[test]
fn more_cancels_than_one_event_holds_go_with_the_next_ones() {
    let params = || Params::new().with("levels", 8);
    let makers =
        vec![spec(0, "market_maker", &[0], params()), spec(1, "market_maker", &[1], params())];
    let funds = [(USDT, 1_000_000), (BTC, 10), (crate::strategy::testing::ETH, 10)];
    let mut rig = Rig::new(makers, &funds);
    rig.run("q 99.99/100.01; @1 q 99.99/100.01");
    assert_eq!(rig.desk.open_orders().count(), 32);
    let first = rig.run("off 0; off 1; timer 1");
    assert_eq!(first.matches("cancel").count(), 32, "{first}");
    assert_eq!(rig.run("timer 1"), "", "each once");
}

#[test]
fn order_ids_carry_the_run_and_never_repeat() {
    let mut rig = rig(vec![momentum(0, &[0])]);
    for number in 1..=3_u64 {
        rig.run(&alloc::format!("t 1; t 2; c {number}"));
    }
    rig.run("t 1; t 2");
    let open: Vec<OrderId> = rig.desk.open_orders().map(|it| it.id).collect();
    assert_eq!(open, [OrderId::new(1, 4)]);
}

#[test]
fn every_problem_of_every_strategy_is_told_with_its_section() {
    let specs = vec![
        spec(0, "momentun", &[0], Params::new()),
        spec(1, "momentum", &[9], Params::new()),
        spec(2, "momentum", &[0], Params::new().with("size", "x")),
        spec(0, "momentum", &[0], Params::new()),
    ];
    let made = Desk::new(&table(), specs, &Registry::shipped(), &DeskOptions::default());
    let problems = made.unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "strategies.s0.kind",
            "strategies.s1.instruments",
            "strategies.s2.size",
            "strategies.s0.id"
        ]
    );
    let rule = problems[0].to_string();
    assert!(rule.contains("sma_cross") && rule.contains("did you mean momentum?"), "{rule}");
}

#[test]
fn a_users_own_kind_is_registered_like_the_shipped_ones() {
    struct Mute;
    impl Strategy for Mute {
        fn on_event(&mut self, _: &Event, _: &mut Context<'_>) {}
    }
    let mut registry = Registry::shipped();
    registry.register("mute", |_, _| Ok(Box::new(Mute)));
    assert_eq!(registry.kinds().last(), Some("mute"));
    let specs = vec![spec(0, "mute", &[0], Params::new())];
    assert!(Desk::new(&table(), specs, &registry, &DeskOptions::default()).is_ok());
}
