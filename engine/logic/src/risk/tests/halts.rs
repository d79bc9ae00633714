use super::*;

/// What risk said, in one line each.
fn lines(said: &[Decision]) -> Vec<String> {
    let line = |it: &Decision| match it.action {
        Action::State => {
            alloc::format!("state {} {} {}/{}", it.state.text(), it.tag, it.found, it.limit)
        }
        Action::Cancel => alloc::format!("cancel {} {}", it.order, it.code.text()),
        Action::Place | Action::Result => String::from(it.action.text()),
    };
    said.iter().map(line).collect()
}

/// A position of 1 BTC, one open entry (2) and one open exit (3).
fn busy(limits: Limits) -> Bench {
    let mut bench = Bench::new(limits);
    let order = bench.pass(buy(100, 10_000));
    bench.fill(&order, 100);
    bench.pass(buy(100, 10_000));
    bench.pass(exit(sell(50, 10_000)));
    bench
}

#[test]
fn what_commands_say_and_cancel() {
    let check = |commands: &[(Verb, i64)], want: &[&str], state: RiskState| {
        let mut bench = busy(Limits::default());
        let mut said = Vec::new();
        for &(verb, argument) in commands {
            said = bench.command(verb, argument);
        }
        assert_eq!(lines(&said), want, "{commands:?}");
        assert_eq!(bench.risk.state(), state, "{commands:?}");
    };
    use RiskState as S;
    use Verb::{CancelAll, Halt, Kill, Reduce, Resume, Stop};
    check(&[(Halt, 0)], &["state halted 1 0/0", "cancel 0-2 halt_cancel"], S::Halted);
    check(&[(Reduce, 0)], &["state reducing 1 0/0", "cancel 0-2 halt_cancel"], S::Reducing);
    check(&[(CancelAll, 0)], &["cancel 0-2 user_cancel", "cancel 0-3 user_cancel"], S::Running);
    let want = ["state stopped 1 0/0", "cancel 0-2 shutdown_cancel", "cancel 0-3 shutdown_cancel"];
    check(&[(Stop, 0)], &want, S::Stopped);
    let want = ["state killed 1 0/0", "cancel 0-2 kill_cancel", "cancel 0-3 kill_cancel"];
    check(&[(Kill, 0)], &want, S::Killed);
    check(&[(Resume, 0)], &["state running 1 0/0"], S::Running);
    check(&[(Halt, 0), (Resume, 0)], &["state running 1 0/0"], S::Running);
    // Repeating is harmless: one more entry, and the cancel again, should it have been lost.
    let twice = [(Halt, 0), (Halt, 0)];
    check(&twice, &["state halted 1 0/0", "cancel 0-2 halt_cancel"], S::Halted);
    check(&[(Halt, 0), (Reduce, 0)], &["state halted 1 0/0"], S::Halted);
    check(&[(Kill, 0), (Resume, 0)], &["state killed 1 0/0"], S::Killed);
    // Nothing weaker hides a kill: a restart goes on from the last state that was said.
    check(&[(Kill, 0), (Halt, 0)], &["state killed 1 0/0", "cancel 0-2 halt_cancel"], S::Killed);
    check(&[(Kill, 0), (Reduce, 0)], &["state killed 1 0/0"], S::Killed);
    check(&[(Kill, 0), (Resume, RESUME_CLEAR_KILL)], &["state running 1 0/0"], S::Running);
    // A stop lasts, and what lies below it still changes.
    check(&[(Stop, 0), (Resume, 0)], &["state running 1 0/0"], S::Stopped);
}

#[test]
fn exits_pass_in_every_state_but_killed() {
    use Verb::{Halt, Kill, Reduce, Stop, StrategyDisable};
    for verb in [Halt, Reduce, Stop, StrategyDisable] {
        let mut bench = busy(Limits::default());
        bench.command(verb, 0);
        bench.pass(exit(sell(50, 10_000)));
        let (_, denied) = bench.place(buy(20, 10_000));
        assert_eq!(denied.verdict, Verdict::Denied, "{verb:?}");
        let (order, code) = bench.place(sell(20, 10_000));
        assert_ne!(code.code, Code::None, "{verb:?}: an exit says so: {order:?}");
    }
    let mut bench = busy(Limits::default());
    bench.command(Kill, 0);
    bench.refuse(exit(sell(50, 10_000)), Code::Killed);
    let cancelled = bench.judge(cancel(OrderId(2)));
    assert_eq!(cancelled.verdict, Verdict::Approved, "cancels always pass");
}

#[test]
fn exits_are_exempt_from_limits_of_value() {
    let mut bench = busy(Limits::default());
    let tiny = Money(1);
    bench.risk.limits = Limits {
        max_notional: tiny,
        max_order_notional: tiny,
        max_position_notional: tiny,
        ..Limits::default()
    };
    bench.pass(exit(sell(50, 10_000)));
    bench.refuse(buy(20, 10_000), Code::MaxNotional);
}

#[test]
fn drawdown_halts_and_does_not_release_itself() {
    let mut bench = busy(Limits { max_drawdown_ppm: 100_000, ..Limits::default() });
    // 900 - 0.1 USDT and 3 BTC: 1199.90 at a mid of 100; at 61.00 it is 1082.90.
    assert_eq!(bench.risk.equity(), Some(Money(119_990_000_000)));
    assert!(bench.quote(BTCUSDT, 6_000, 6_200).is_empty());
    // At 60.00 it is 1079.90, 10.008 % below 1200.00, the peak before the first fee was paid.
    let said = bench.quote(BTCUSDT, 5_900, 6_100);
    let want = ["state halted 2 100083/100000", "cancel 0-2 halt_cancel"];
    assert_eq!(lines(&said), want);
    assert!(bench.quote(BTCUSDT, 5_000, 5_100).is_empty(), "once");
    let said = bench.command(Verb::Resume, 0);
    assert_eq!(said[0].state, RiskState::Halted, "the loss persists");
    assert!(bench.quote(BTCUSDT, 9_900, 10_100).is_empty());
    assert_eq!(bench.risk.state(), RiskState::Halted, "recovered, and still halted");
    bench.refuse(buy(20, 10_000), Code::Halted);
    bench.command(Verb::Resume, 0);
    assert_eq!(bench.risk.state(), RiskState::Running);
    bench.quote(BTCUSDT, 5_900, 6_100);
    assert_eq!(bench.risk.state(), RiskState::Halted);
    bench.command(Verb::Resume, RESUME_REBASE);
    assert_eq!(bench.risk.state(), RiskState::Running);
}

#[test]
fn a_days_loss_halts_and_midnight_begins_a_new_day() {
    let limits = Limits { max_daily_loss: Money(50 * UNIT), ..Limits::default() };
    let mut bench = Bench::new(limits);
    bench.quote(BTCUSDT, 7_900, 8_100); // 2 BTC: 40 lost
    assert_eq!(bench.risk.state(), RiskState::Running);
    bench.wait(86_400_000);
    bench.quote(BTCUSDT, 6_900, 7_100); // 20 more, on another day
    assert_eq!(bench.risk.state(), RiskState::Running);
    let said = bench.quote(BTCUSDT, 5_400, 5_600);
    let loss = alloc::format!("state halted 3 {}/{}", 50 * UNIT, 50 * UNIT);
    assert_eq!(lines(&said), [loss]);
}

#[test]
fn a_storm_of_rejects_halts_and_ordinary_refusals_do_not() {
    let storm = |code: Code, pause_ms: u64| {
        let mut bench = Bench::new(Limits { reject_breaker: 3, ..Limits::default() });
        let mut said = Vec::new();
        for _ in 0..3 {
            bench.now += pause_ms * MS;
            bench.quote(BTCUSDT, 9_900, 10_100);
            let (order, _) = bench.place(buy(20, 10_000));
            said = bench.report(order.order, ReportState::Rejected, code);
        }
        lines(&said)
    };
    assert_eq!(storm(Code::VenueRejected, 1_000), ["state halted 4 3/3"]);
    assert!(storm(Code::VenueRejected, 30_000).is_empty(), "60 s have passed");
    assert!(storm(Code::PostOnlyWouldCross, 1_000).is_empty());
}

#[test]
fn a_fill_that_cannot_be_booked_halts() {
    let mut bench = busy(Limits::default());
    let (at, order) = (bench.at(), OrderId(2));
    let (price, qty) = (Price(i64::MAX), Qty(100));
    let fill = Event::fill(at, at, BTCUSDT, order, Side::Buy, price, qty, Money(0), false);
    let said = bench.tell(fill);
    assert_eq!(lines(&said)[0], "state halted 5 1/0");
    assert_eq!(bench.risk.counts().unbooked_fills, 1);
    assert_eq!(bench.risk.state(), RiskState::Halted);
}
