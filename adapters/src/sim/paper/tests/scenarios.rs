//! One line per behaviour.

use super::*;
use crate::sim::paper::{COMMANDS_MAX, Funding, MakerModel, ORDERS_MAX};

/// What an order to buy 5, where it has a price at 101, meets: enough, too little, or nothing.
#[test]
fn every_type_time_in_force_and_flag_has_its_answer() {
    let lines = "
        limit  gtc -    101x9 : 1 acked, 1 5@101
        limit  gtc -    101x2 : 1 acked, 1 2@101 ... rests
        limit  gtc -    -     : 1 acked ... rests
        limit  gtc post 101x9 : 1 rejected 5 post_only_would_cross
        limit  gtc post 101x2 : 1 rejected 5 post_only_would_cross
        limit  gtc post -     : 1 acked ... rests
        limit  ioc -    101x9 : 1 acked, 1 5@101
        limit  ioc -    101x2 : 1 acked, 1 2@101, 1 cancelled 3 ioc_partial_cancel
        limit  ioc -    -     : 1 acked, 1 cancelled 5 ioc_unfilled
        limit  ioc post 101x9 : 1 rejected 5 post_only_would_cross
        limit  ioc post 101x2 : 1 rejected 5 post_only_would_cross
        limit  ioc post -     : 1 acked, 1 cancelled 5 ioc_unfilled
        limit  fok -    101x9 : 1 acked, 1 5@101
        limit  fok -    101x2 : 1 rejected 5 fok_unfilled
        limit  fok -    -     : 1 rejected 5 fok_unfilled
        limit  fok post 101x9 : 1 rejected 5 post_only_would_cross
        limit  fok post 101x2 : 1 rejected 5 post_only_would_cross
        limit  fok post -     : 1 rejected 5 fok_unfilled
        market gtc -    101x9 : 1 acked, 1 5@101
        market gtc -    101x2 : 1 acked, 1 2@101, 1 cancelled 3 ioc_partial_cancel
        market gtc -    -     : 1 rejected 5 no_liquidity
        market gtc post 101x9 : 1 rejected 5 post_only_would_cross
        market gtc post 101x2 : 1 rejected 5 post_only_would_cross
        market gtc post -     : 1 rejected 5 post_only_would_cross
        market ioc -    101x9 : 1 acked, 1 5@101
        market ioc -    101x2 : 1 acked, 1 2@101, 1 cancelled 3 ioc_partial_cancel
        market ioc -    -     : 1 rejected 5 no_liquidity
        market ioc post 101x9 : 1 rejected 5 post_only_would_cross
        market ioc post 101x2 : 1 rejected 5 post_only_would_cross
        market ioc post -     : 1 rejected 5 post_only_would_cross
        market fok -    101x9 : 1 acked, 1 5@101
        market fok -    101x2 : 1 rejected 5 fok_unfilled
        market fok -    -     : 1 rejected 5 no_liquidity
        market fok post 101x9 : 1 rejected 5 post_only_would_cross
        market fok post 101x2 : 1 rejected 5 post_only_would_cross
        market fok post -     : 1 rejected 5 post_only_would_cross";
    let mut seen = 0;
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let (input, want) = line.split_once(':').unwrap();
        let input: Vec<&str> = input.split_whitespace().collect();
        let [kind, tif, flag, asks] = input.as_slice() else {
            panic!("{line}");
        };
        let order = if *kind == "limit" { "5@101" } else { "5" };
        let asks = if *asks == "-" { "" } else { asks };
        let want = want.trim();
        let (reports, rests) = match want.strip_suffix(" ... rests") {
            Some(reports) => (reports, true),
            None => (want, false),
        };
        // Whether an order may only reduce is risk's business: here it changes nothing.
        for reduce in ["-", "reduce"] {
            let mut bench = Bench::new(options());
            bench.line(&format!("book 99x9 / {asks}"));
            bench.line(&format!("buy {order} {tif} {flag} {reduce}"));
            assert_eq!(bench.words(), reports, "{line} {reduce}");
            assert_eq!(bench.venue.open(), usize::from(rests), "{line} {reduce}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * 2 * 3 * 2 * 3);
}

#[test]
fn takers_sweep_from_best_to_worst_and_what_they_took_is_gone() {
    check("book 99x9 98x9 / 101x2 102x4 104x9; buy 9", "1 acked, 1 2@101, 1 4@102, 1 3@104");
    check("book 99x2 98x9 / 101x2; sell 5@98", "1 acked, 1 2@99, 1 3@98");
    check(
        "book 99x9 / 101x2 102x4; buy 2; buy 9@101 ioc; buy 1",
        "1 acked, 1 2@101, 2 acked, 2 cancelled 9 ioc_unfilled, 3 acked, 3 1@102",
    );
    // Market data states another quantity for the level: it is there again.
    check(
        "book 99x9 / 101x2; buy 2; ask 101x3; buy 9 ioc",
        "1 acked, 1 2@101, 2 acked, 2 3@101, 2 cancelled 6 ioc_partial_cancel",
    );
    // A fill-or-kill that fails leaves the book as it was.
    check(
        "book 99x9 / 101x2 102x1; buy 4@102 fok; buy 3@102 fok",
        "1 rejected 4 fok_unfilled, 2 acked, 2 2@101, 2 1@102",
    );
    // A market order with a price never passes it.
    check(
        "book 99x9 / 101x2 105x4; buy 9<104",
        "1 acked, 1 2@101, 1 cancelled 7 ioc_partial_cancel",
    );
}

#[test]
fn the_newer_of_quote_and_book_leads() {
    // The quote says that 101 is gone and 102 has 1: the book behind it still counts.
    check("book 99x9 / 101x5 102x5 103x5; quote 99x9 102x1; buy 3", "1 acked, 1 1@102, 1 2@103");
    // A repeated quote does not bring back what was taken.
    check(
        "quote 99x9 101x2; buy 2; quote 98x9 101x2; buy 1 ioc; quote 98x9 101x3; buy 1",
        "1 acked, 1 2@101, 2 rejected 1 no_liquidity, 3 acked, 3 1@101",
    );
    // Nor does the slower depth stream, when it tells of the same size.
    check(
        "book 99x9 / 102x5; quote 99x9 101x2; buy 2; ask 101x2; buy 1",
        "1 acked, 1 2@101, 2 acked, 2 1@102",
    );
    // The next complete change of the book leads again.
    check("book 99x9 / 101x5; quote 99x9 103x1; ask 102x4; buy 1", "1 acked, 1 1@101");
}

#[test]
fn resting_orders_wait_for_the_queue_ahead_of_them() {
    let resting = "book 99x5 98x7 / 101x9; buy 3@99;";
    let cases = [
        // The five displayed ahead go first, then ours.
        ("trade sell 99x5", ""),
        ("trade sell 99x6", "1 1@99 maker"),
        ("trade sell 99x4; trade sell 99x4", "1 3@99 maker"),
        ("trade sell 99x4; trade sell 99x2; trade sell 99x9", "1 1@99 maker, 1 2@99 maker"),
        // Buyers do not hit bids.
        ("trade buy 99x50", ""),
        // A trade above our price says nothing about ours.
        ("trade sell 100x50", ""),
        // A trade below our price went through it, whatever was ahead.
        ("trade sell 98x2", "1 2@99 maker"),
        ("trade sell 98x50", "1 3@99 maker"),
        // The level shrinks: at most what is left can be ahead.
        ("bid 99x2; trade sell 99x3", "1 1@99 maker"),
        ("bid 99x0; trade sell 99x3", "1 3@99 maker"),
        ("quote 99x1 101x9; trade sell 99x2", "1 1@99 maker"),
        ("quote 98x7 101x9; trade sell 99x2", "1 2@99 maker"),
        // It grows behind us.
        ("bid 99x50; trade sell 99x6", "1 1@99 maker"),
        // Trade and level tell of the same five: they are not counted twice.
        ("trade sell 99x3; bid 99x2; trade sell 99x3", "1 1@99 maker"),
        // The other side comes to us.
        ("ask 99x2", "1 2@99 maker"),
        ("quote 98x7 99x2", "1 2@99 maker"),
        ("quote 97x7 98x4", "1 3@99 maker"),
        ("ask 100x50", ""),
        // While nothing is known nothing trades; the queue is as long as it was.
        ("gap; trade sell 99x4; trade sell 99x2", "1 1@99 maker"),
        ("gap; book 99x2 / 101x1; trade sell 99x3", "1 1@99 maker"),
        ("disconnect; cancel 1", "1 cancelled 3 user_cancel"),
    ];
    for (script, want) in cases {
        let want = if want.is_empty() { "1 acked".to_owned() } else { format!("1 acked, {want}") };
        // A bid of ours below an ask that moved onto it: the feed takes its bids away first.
        let script = script.replace("ask 99x2", "bid 99x0; ask 99x2");
        check(&format!("{resting} {script}"), &want);
    }
}

#[test]
fn our_own_orders_queue_behind_each_other() {
    // Better price first, then earlier; one trade is shared, not given to each.
    check(
        "book 98x5 / 101x9; buy 2@99; buy 2@99; buy 2@100; trade sell 99x5",
        "1 acked, 2 acked, 3 acked, 3 2@100 maker, 1 2@99 maker, 2 1@99 maker",
    );
    check(
        "book 99x5 / 101x9; buy 2@99; buy 2@99; trade sell 99x8",
        "1 acked, 2 acked, 1 2@99 maker, 2 1@99 maker",
    );
    check(
        "book 99x5 / 102x9; sell 2@101; sell 2@101; quote 101x3 102x9",
        "1 acked, 2 acked, 1 2@101 maker, 2 1@101 maker",
    );
    // What a cross took is not there for the next taker.
    check(
        "book 99x5 / 102x9; sell 2@101; quote 101x3 102x9; sell 2 ioc",
        "1 acked, 1 2@101 maker, 2 acked, 2 1@101, 2 1@99",
    );
}

#[test]
fn an_unknown_market_refuses_takers_and_lets_makers_wait() {
    check("buy 1", "1 rejected 1 no_liquidity");
    check("buy 1@9 ioc", "1 acked, 1 cancelled 1 ioc_unfilled");
    check("buy 1@9 fok", "1 rejected 1 fok_unfilled");
    check(
        "book 9x1 / 11x1; gap; buy 1; book 9x1 / 11x1; buy 1",
        "1 rejected 1 no_liquidity, 2 acked, 2 1@11",
    );
    check("quote 9x1 11x1; disconnect; buy 1", "1 rejected 1 no_liquidity");
    // Nobody knows what was ahead, until the next book tells.
    check("buy 2@9; trade sell 9x99; book 9x3 / 11x1; trade sell 9x4", "1 acked, 1 1@9 maker");
}

#[test]
fn bad_orders_are_refused_by_name() {
    let book = "book 99x9 / 101x9;";
    check(&format!("{book} buy 0@99"), "1 rejected 0 invalid_quantity");
    check(&format!("{book} buy -1@99"), "1 rejected -1 invalid_quantity");
    check(&format!("{book} buy 1@0"), "1 rejected 1 missing_price");
    check(&format!("{book} buy 1@-5"), "1 rejected 1 missing_price");
    let most = i64::MAX;
    check(&format!("{book} buy {most}@{most}"), &format!("1 rejected {most} invalid_numeric"));
    check(&format!("{book} cancel 7"), "7 cancel_rejected 0 unknown_order");
    check(
        &format!("{book} buy 1@98; cancel 1; cancel 1"),
        "1 acked, 1 cancelled 1 user_cancel, 1 cancel_rejected 0 unknown_order",
    );
    let mut bench = Bench::new(options());
    bench.line("book 99x9 / 101x9");
    let foreign =
        Decision { instrument: InstrumentId(7), ..place(1, Side::Buy, OrderType::Market, 0, 1) };
    bench.send(&foreign);
    bench.send(&place(2, Side::Buy, OrderType::Limit, 98, 1));
    bench.send(&place(2, Side::Buy, OrderType::Limit, 98, 1));
    bench.advance();
    let want = "1 rejected 1 unknown_instrument, 2 acked, 2 rejected 1 duplicate_client_order_id";
    assert_eq!(bench.words(), want);
}

#[test]
fn the_account_pays_for_everything_and_no_more() {
    // 10 coins cost 1010 and a fee of 2.02.
    let poor = |usdt: i64, coins: i64| PaperOptions {
        balances: vec![(VENUE, USDT, Money(usdt)), (VENUE, BTC, Money(coins * ONE))],
        ..options()
    };
    let run = |options: PaperOptions, lines: &[&str]| {
        let mut bench = Bench::new(options);
        bench.line("book 99x90 / 101x90");
        lines.iter().for_each(|line| bench.line(line));
        bench.words()
    };
    let enough = 1_012 * ONE + 2_000_000;
    assert_eq!(run(poor(enough, 0), &["buy 10"]), "1 acked, 1 10@101");
    let refused = "1 rejected 10 venue_rejected";
    assert_eq!(run(poor(enough - 1, 0), &["buy 10"]), refused);
    // A resting order locks its value and the maker's fee: 10 at 100 are 1001.
    let two = ["buy 10@100", "buy 10@100"];
    let first = "1 acked, 2 rejected 10 venue_rejected";
    assert_eq!(run(poor(2_001 * ONE, 0), &two), first);
    assert_eq!(run(poor(2_002 * ONE, 0), &two), "1 acked, 2 acked");
    // Cancelling gives it back.
    let again = ["buy 10@100", "cancel 1", "buy 10@100"];
    assert_eq!(run(poor(1_001 * ONE, 0), &again), "1 acked, 1 cancelled 10 user_cancel, 2 acked");
    // Coins: what rests is not for sale twice.
    let sells = ["sell 6@105", "sell 5@105", "sell 4"];
    assert_eq!(run(poor(0, 10), &sells), "1 acked, 2 rejected 5 venue_rejected, 3 acked, 3 4@99");
    let short = PaperOptions { funding: Funding::Borrow, ..poor(0, 0) };
    assert_eq!(run(short, &["sell 4"]), "1 acked, 1 4@99");

    let mut bench = Bench::new(options());
    bench.line("book 99x90 / 101x90");
    bench.line("buy 10");
    let (total, free) = bench.venue.balance(VENUE, USDT).unwrap();
    assert_eq!(total, Money((1_000_000 - 1_012) * ONE - 2_000_000));
    assert_eq!(free, total);
    assert_eq!(bench.venue.balance(VENUE, BTC).unwrap().0, Money(10_010 * ONE));
    assert_eq!(bench.venue.balance(VenueId(1), BTC), None);
}

#[test]
fn commands_take_their_time_there_and_reports_back() {
    let mut bench =
        Bench::new(PaperOptions { latency_ns: 100, response_latency_ns: 40, ..options() });
    bench.line("book 99x9 / 101x9"); // at 1
    bench.line("buy 1"); // at 2, so there at 102
    assert_eq!(bench.venue.next_due(), Some(Nanos(102)));
    assert_eq!((bench.words().as_str(), bench.venue.open()), ("", 1));
    // An event of 103 comes first: the order met the market before it.
    bench.now = Nanos(102);
    bench.line("ask 101x0");
    assert_eq!(bench.venue.next_due(), Some(Nanos(142)));
    bench.now = Nanos(141);
    bench.advance();
    assert_eq!(bench.words(), "");
    bench.now = Nanos(142);
    bench.advance();
    assert_eq!(bench.words(), "1 acked, 1 1@101");
    for report in &bench.reports {
        assert_eq!((report.at, report.venue_at), (Nanos(142), Nanos(102)));
    }
    assert!(bench.venue.is_idle());
    assert_eq!(bench.venue.next_due(), None);
}

#[test]
fn jitter_comes_from_the_seed_and_stays_within_its_range() {
    let arrivals = |seed| {
        let mut bench =
            Bench::new(PaperOptions { latency_ns: 1_000, jitter_ns: 500, seed, ..options() });
        for id in 0..50 {
            bench.send(&place(id, Side::Buy, OrderType::Market, 0, 1));
        }
        bench.now = Nanos(10_000);
        bench.advance();
        let times: Vec<_> = bench.reports.iter().map(|it| (it.at, words(it))).collect();
        assert!(times.is_sorted_by_key(|it| it.0));
        assert!(times.iter().all(|it| (1_000..=1_500).contains(&it.0.0)));
        times
    };
    assert_eq!(arrivals(1), arrivals(1));
    assert_ne!(arrivals(1), arrivals(2));
}

#[test]
fn a_cancel_never_overtakes_its_order() {
    for seed in 0..64 {
        let mut bench = Bench::new(PaperOptions { jitter_ns: 1_000, seed, ..options() });
        bench.line("book 99x9 / 101x9");
        bench.line("buy 1@98");
        bench.line("cancel 1");
        bench.now = Nanos(5_000);
        bench.advance();
        assert_eq!(bench.words(), "1 acked, 1 cancelled 1 user_cancel");
    }
}

#[test]
fn a_cancel_by_risk_keeps_its_reason() {
    let mut bench = Bench::new(options());
    bench.line("book 99x9 / 101x9");
    bench.line("buy 1@98");
    bench.send(&Decision { code: Code::HaltCancel, ..cancel(1) });
    bench.advance();
    assert_eq!(bench.words(), "1 acked, 1 cancelled 1 halt_cancel");
}

#[test]
fn full_queues_answer_at_once_and_lose_nothing() {
    let mut bench = Bench::new(PaperOptions { latency_ns: 1_000, ..options() });
    let extra = 3;
    for id in 0..(COMMANDS_MAX + extra) as u64 {
        bench.send(&place(id, Side::Buy, OrderType::Limit, 1, 1));
    }
    assert_eq!(bench.reports.len(), extra);
    assert!(words(&bench.reports[0]).ends_with("rejected 1 venue_unavailable"));
    bench.now = Nanos(1_000);
    bench.advance();
    let rested = bench.reports.iter().filter(|it| words(it).ends_with("acked"));
    assert_eq!(rested.count(), ORDERS_MAX);
    assert_eq!(bench.reports.len(), COMMANDS_MAX + extra);
    assert!(words(bench.reports.last().unwrap()).ends_with("max_open_orders"));
    assert_eq!(bench.venue.open(), ORDERS_MAX);
}

#[test]
fn reports_that_find_no_room_make_the_venue_late_never_silent() {
    let mut bench = Bench::new(PaperOptions { response_latency_ns: 1_000_000, ..options() });
    bench.line("book 99x9 / 101x9");
    // 40 000 answers cannot wait on their way at once; nothing is taken until some have arrived.
    let mut refused = 0;
    for id in 0..40_000 {
        refused += usize::from(bench.venue.send(bench.now, &cancel(id)).is_some());
        bench.advance();
    }
    assert_eq!(bench.reports.len(), 0);
    while let Some(due) = bench.venue.next_due() {
        assert!(due >= bench.now, "time goes on");
        bench.now = due;
        bench.advance();
    }
    assert_eq!(bench.reports.len() + refused, 40_000);
    assert!(refused < 40_000 && bench.venue.is_idle());
}

#[test]
fn the_end_answers_everything() {
    let mut bench =
        Bench::new(PaperOptions { latency_ns: 10, response_latency_ns: 5, ..options() });
    bench.line("book 99x9 / 101x9");
    bench.line("buy 2@98");
    bench.now = Nanos(20);
    bench.line("buy 3@97");
    bench.line("cancel 9");
    let mut end = Vec::new();
    let code = Code::ShutdownCancel;
    bench.venue.cancel_all(bench.now, code, &mut |event| end.push(words(&event)));
    let want = [
        "2 cancelled 3 shutdown_cancel",
        "9 cancel_rejected 0 unknown_order",
        "1 cancelled 2 shutdown_cancel",
    ];
    assert_eq!(end, want);
    assert_eq!(bench.words(), "1 acked");
    assert!(bench.venue.is_idle());
    let (total, free) = bench.venue.balance(VENUE, USDT).unwrap();
    assert_eq!(total, free);
}

#[test]
fn luck_fills_small_orders_more_often_than_large_ones() {
    let fills = |qty: i64, seed| {
        let mut bench = Bench::new(PaperOptions {
            maker_model: MakerModel::Probability,
            maker_queue_eta: 2.0,
            seed,
            ..options()
        });
        bench.line("book 99x9 / 101x9");
        let mut filled = 0;
        for _ in 0..200 {
            bench.line(&format!("buy {qty}@98"));
            bench.line("trade buy 101x1");
            filled = bench.reports.iter().filter(|it| words(it).contains("maker")).count();
            let id = bench.orders;
            bench.line(&format!("cancel {id}"));
        }
        filled
    };
    // exp(-1/2) is 0.61, exp(-4/2) is 0.14: of 200, 121 and 27 on average.
    let (small, large) = (fills(1, 1), fills(4, 1));
    assert!((100..=142).contains(&small), "{small}");
    assert!((12..=44).contains(&large), "{large}");
    assert_eq!(fills(1, 1), small);
    assert_eq!(fills(100, 1), 0, "beyond the noise of 10^-3 in 200 draws");
}
