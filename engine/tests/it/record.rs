//! What is recorded plays back as the same market.

use std::sync::atomic::{AtomicBool, Ordering};

use kairos_edge::config::Config;
use kairos_engine::recording::{RecordOptions, record};
use kairos_logic::event::{Event, Kind};

use crate::harness::Setup;

/// Events of the market, without their stamps.
fn market<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<Event> {
    let market = |it: &&Event| matches!(it.kind, Kind::Trade | Kind::Quote | Kind::Book);
    let bare = |it: &Event| Event { in_after: 0, recv: Default::default(), ..*it };
    events.into_iter().filter(market).map(bare).collect()
}

fn live(setup: &Setup) -> Config {
    let text = setup.text().replace("market_data = \"capture\"", "market_data = \"sim\"");
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
    let config = live(&setup);
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
