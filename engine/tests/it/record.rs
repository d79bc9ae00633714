//! What is recorded plays back as the same market.

use std::sync::atomic::{AtomicBool, Ordering};

use kairos_adapters::sim::faults::{Fault, Faults};
use kairos_adapters::sim::gateway::GatewayOptions;
use kairos_adapters::sim::host::{Host, HostOptions};
use kairos_adapters::sim::venue::Protocol;
use kairos_edge::config::Config;
use kairos_engine::recording::{RecordOptions, record};
use kairos_logic::event::{Event, Flags, GapReason, Kind, News};
use kairos_logic::units::Nanos;

use crate::harness::Setup;

/// Events of the market, without their stamps.
fn market<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<Event> {
    let market = |it: &&Event| matches!(it.kind, Kind::Trade | Kind::Quote | Kind::Book);
    let bare = |it: &Event| Event { in_after: 0, recv: Default::default(), ..*it };
    events.into_iter().filter(market).map(bare).collect()
}

/// The same configuration on a venue: `source` says where it is.
fn live(setup: &Setup, source: &str) -> Config {
    let text = setup.text().replace("market_data = \"capture\"", source);
    let without = |line: &&str| !line.starts_with("captures") && !line.starts_with("pace");
    let mut text: String = text.lines().filter(without).map(|it| format!("{it}\n")).collect();
    if let Some(at) = text.find("captures = ") {
        let end = text[at..].find('\n').unwrap() + at;
        text.replace_range(at..end, "");
    }
    Config::parse("test", &text, None).unwrap_or_else(|it| panic!("{it:#?}\n{text}"))
}

#[test]
fn what_is_recorded_plays_back_as_the_same_market() {
    let mut setup = Setup::seeded(11, 1);
    let config = live(&setup, "market_data = \"sim\"");
    let folder = setup.dir.path().join("recorded");
    let (stop, mut seen) = (AtomicBool::new(false), Vec::new());
    let options = RecordOptions { folder: &folder, compress: true, stop: &stop, limit: None };
    let mut on_event = |event: &Event| {
        seen.push(*event);
        if seen.len() >= 3_000 {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let files = record(&config, &options, &mut on_event, &mut |it| panic!("{it}")).unwrap();
    assert_eq!(files.len(), 1, "one connection");
    assert!(files[0].frames > 100 && files[0].snapshots >= 3, "{files:?}");

    setup.captures = vec![files[0].path.clone()];
    setup.run();
    let content = setup.content();
    let played = market(content.events.iter().map(|it| &it.1));
    let seen = market(&seen);
    let books = seen.iter().filter(|it| it.kind == Kind::Book).count();
    assert!(books > 500 && seen.len() > books + 50, "{books} of {}", seen.len());
    assert!(played == seen, "{} events played back, {} seen", played.len(), seen.len());
    assert!(setup.verify().equal);
}

/// The market, and where books were lost with their connection. Played back, that is told with the next
/// frame: its time is another one.
fn story(events: &[Event]) -> Vec<Event> {
    let told = |it: &&Event| match it.news() {
        News::Trade { .. } | News::Quote { .. } | News::Book { .. } => true,
        News::Gap { reason, .. } => reason == GapReason::Disconnected,
        _ => false,
    };
    let bare = |it: &Event| Event {
        in_after: 0,
        recv: Default::default(),
        at: if it.kind == Kind::Gap { Nanos(0) } else { it.at },
        ..*it
    };
    events.iter().filter(told).map(bare).collect()
}

#[test]
fn connections_of_one_link_play_back_as_one() {
    // One that is lost, and ones that overlap their successors.
    for (fault, least) in [("cut@1500:1", 2), ("age=2", 3)] {
        let fault: Fault = fault.parse().unwrap();
        let seeded = GatewayOptions::seeded(Protocol::Binance, 11);
        let gateway = GatewayOptions { faults: Faults::new(11, &[fault]), ..seeded };
        let host = Host::start(HostOptions::plain(gateway)).unwrap();
        let mut setup = Setup::seeded(11, 1);
        let source = format!(
            "market_data = \"live\"\nws_public_url = {:?}\nrest_url = {:?}",
            host.ws_url(),
            host.rest_url()
        );
        let config = live(&setup, &source);
        let folder = setup.dir.path().join("recorded");
        let (stop, mut seen) = (AtomicBool::new(false), Vec::new());
        let options = RecordOptions { folder: &folder, compress: true, stop: &stop, limit: None };
        // Whole books of the last connection, too: then something of everybody was heard.
        let (mut books, mut after) = (0, 0);
        let mut on_event = |event: &Event| {
            seen.push(*event);
            let begins = event.kind == Kind::Book && event.flags.has(Flags::CLEAR);
            books += usize::from(begins);
            after += usize::from(books >= 3 * least);
            stop.store(after > 500, Ordering::Relaxed);
        };
        let files = record(&config, &options, &mut on_event, &mut |it| panic!("{it}")).unwrap();
        assert!(files.len() >= least, "{fault:?}: {files:?}");
        drop(host);

        setup.captures = files.iter().map(|it| it.path.clone()).collect();
        setup.run();
        let content = setup.content();
        let played: Vec<Event> = content.events.iter().map(|it| it.1).collect();
        let (played, seen) = (story(&played), story(&seen));
        let lost = seen.iter().filter(|it| it.kind == Kind::Gap).count();
        assert_eq!(lost > 0, fault == "cut@1500:1".parse().unwrap(), "{fault:?}: {lost} gaps");
        let differs = played.iter().zip(&seen).position(|it| it.0 != it.1);
        assert!(
            played == seen,
            "{fault:?}: {} played back, {} seen; first at {differs:?}",
            played.len(),
            seen.len()
        );
        assert!(setup.verify().equal);
    }
}
