//! What an operator reads when a file is wrong, and what the program believes when it is right.

use std::path::Path;

use kairos_logic::risk::Limits;
use kairos_logic::units::{InstrumentId, MONEY_SCALE, Money, Price, Qty, VenueId, parse_decimal};
use proptest::prelude::*;

use super::*;

/// A file without anything to object to.
const GOOD: &str = r#"
[engine]
name = "demo"
[venues.binance]
market_data = "capture"
instruments = ["BTCUSDT", "ETHBTC"]
captures = ["a.frames.gz"]
"#;
const USABLE: [u16; 2] = [0, 1];

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse("k.toml", text, Some(&USABLE))
}

fn lines(result: Result<Config, Vec<Problem>>) -> String {
    match result {
        Ok(_) => String::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

/// `extra` behind the good file makes exactly these lines.
fn check(extra: &str, want: &str) {
    assert_eq!(lines(parse(&format!("{GOOD}{extra}"))), want, "{extra}");
}

#[test]
fn every_problem_is_one_line_with_key_value_rule_and_place() {
    check("[engin]\nx = 1", "engin: is not a known key; did you mean engine? (k.toml:8)");
    check(
        "[risk]\nmax_order_notinal = 1",
        "risk.max_order_notinal: is not a known key; did you mean max_order_notional? (k.toml:9)",
    );
    check("pase = 1", "venues.binance.pase: is not a known key; did you mean pace? (k.toml:8)");
    check(
        "pace = 0.0",
        "venues.binance.pace = 0.0: must be \"max\", \"recorded\" or a positive factor such as 10.0 (k.toml:8)",
    );
    check(
        "maker_fee = 2",
        "venues.binance.maker_fee = 2: must be a fraction such as 0.0002, between -1 and 1 (k.toml:8)",
    );
    check(
        "taker_fee = \"x\"",
        "venues.binance.taker_fee = \"x\": must be a fraction such as 0.0002, between -1 and 1: not a plain decimal number (k.toml:8)",
    );
    check(
        "execution = \"live\"",
        "venues.binance.execution = \"live\": live orders are not part of this build; use \"paper\" (k.toml:8)",
    );
    check(
        "execution = \"papier\"",
        "venues.binance.execution = \"papier\": must be \"paper\" or \"live\" (k.toml:8)",
    );
    check("enabled = 1", "venues.binance.enabled = 1: must be true or false (k.toml:8)");
    check(
        "[journal]\nplacement = \"hit\"",
        "journal.placement = \"hit\": must be \"direct\" or \"hot\" (k.toml:9)",
    );
    check(
        "[journal]\nplacement = \"hot\"\nhot_segments = 3",
        "journal.hot_segments = 3: must be a whole number from 4 to 64 (k.toml:10)",
    );
    check("[journal]\nplacement = \"hot\"\nhot_dir = \"/mnt/hot\"", "");
    check(
        "[journal]\nkeep_days = 0",
        "journal.keep_days = 0: must be a whole number from 1 to 36500 (k.toml:9)",
    );
    check("[journal]\ndrop_undrained = true\narchiver_failed_action = \"reduce_only\"", "");
    check(
        "[journal]\narchiver_failed_action = \"stop\"",
        "journal.archiver_failed_action = \"stop\": must be \"alarm\" or \"reduce_only\" or \"halt\" (k.toml:9)",
    );
    check(
        "[journal]\nsegment_mib = 3",
        "journal.segment_mib = 3: must be a power of two from 2 to 65536 (k.toml:9)",
    );
    check(
        "[journal]\nsegment_mib = 1",
        "journal.segment_mib = 1: must be a power of two from 2 to 65536 (k.toml:9)",
    );
    check(
        "[journal]\nsegment_mib = 2\nsegment_bytes = 2097152",
        "journal.segment_bytes = 2097152: segment_mib says it already (k.toml:10)",
    );
    check(
        "[journal]\ngate = \"commited\"",
        "journal.gate = \"commited\": must be \"committed\" or \"durable\" or \"none\" (k.toml:9)",
    );
    check("[journal]\ndir = 3", "journal.dir = 3: must be text in quotes (k.toml:9)");
    check(
        "[journal.recover]\nmode = \"salvage\"",
        "journal.recover.mode = \"salvage\": must be \"absolute\" or \"tolerate-torn-tail\" or \"point-in-time\" (k.toml:9)",
    );
    check(
        "[cores]\nexecution = 4\nwait = \"park\"",
        "cores.execution = 4: not among the usable CPUs [0, 1] (k.toml:9)",
    );
    check("[cores]\nrisk = \"a\"", "cores.risk = \"a\": must be the number of a CPU (k.toml:9)");
    check(
        "[cores]\nfeed = { okx = 0, binance = 1 }",
        "cores.feed.okx = 0: is not an enabled venue (k.toml:9)",
    );
    check("[cores]\nfeed = {}", "cores.feed: names no CPU for venue binance");
    check(
        "[cores]\nhousekeeping = [7]",
        "cores.housekeeping = [7]: not all among the usable CPUs [0, 1] (k.toml:9)",
    );
    check(
        "[execution]\nlatency_ns = 5\nlatency_ms = 1",
        "execution.latency_ms = 1: latency_ns says it already (k.toml:10)",
    );
    check(
        "[feed]\norderbook_depth = 5000",
        "feed.orderbook_depth = 5000: must be a whole number from 1 to 4096 (k.toml:9)",
    );
    check(
        "[paper]\nbalances = { usdt = \"-1\" }",
        "paper.balances.usdt = \"-1\": must be an amount of at least 0 with at most 8 decimals (k.toml:9)",
    );
    check(
        "[risk]\nmax_position_qty = 1\nmax_position_size = 2",
        "risk.max_position_size = 2: max_position_qty says it already (k.toml:10)",
    );
    check(
        "[risk]\nmax_drawdown_pct = 30",
        "risk.max_drawdown_pct = 30: must be a fraction of the peak, such as 0.30, from 0 to 1 (k.toml:9)",
    );
    check(
        "[risk]\nhalt_policy = \"flatten\"",
        "risk.halt_policy = \"flatten\": must be \"cancel\" (k.toml:9)",
    );
    check("[strategies.a]\nsize = 1", "strategies.a.kind: must name the kind of strategy");
    check(
        "[strategies.a]\nkind = \"momentum\"\nx = { y = 1 }",
        "strategies.a.x = { y = 1 }: must be a value or a list of values (k.toml:10)",
    );
    check(
        "[strategies]\na = 1",
        "strategies.a = 1: must be a section with keys of its own (k.toml:9)",
    );
    check(
        "[instruments.X]\ntick_size = \"0\"",
        "instruments.X.tick_size = \"0\": must be a positive decimal with at most 12 decimals (k.toml:9)",
    );
    check(
        "[instruments.X]\nprice_scale = 13",
        "instruments.X.price_scale = 13: must be a whole number from 0 to 12 (k.toml:9)",
    );
}

#[test]
fn problems_of_the_engine_and_its_venues_are_lines_too() {
    let check = |text: &str, want: &str| assert_eq!(lines(parse(text)), want, "{text}");
    check(
        "[engine]\nname = \"../x\"",
        "engine.name = \"../x\": must be 1 to 64 of A-Z a-z 0-9 . _ - and not begin with a point (k.toml:2)",
    );
    check(
        "[engine]\nring_slots = 1000",
        "engine.ring_slots = 1000: must be a power of two from 1024 to 16777216 (k.toml:2)",
    );
    check(
        "[engine]\nring_slots = 1025",
        "engine.ring_slots = 1025: must be a power of two from 1024 to 16777216 (k.toml:2)",
    );
    check(
        "[engine]\nseed = -1",
        "engine.seed = -1: must be a whole number of at least 0 (k.toml:2)",
    );
    check(
        "[orders]\nallow_short = true\n[risk]\nallow_short = true",
        "orders.allow_short = true: risk.allow_short says it already (k.toml:2)",
    );
    check(
        "[orders]\nallow_shrt = true",
        "orders.allow_shrt: is not a known key; did you mean allow_short? (k.toml:2)",
    );
    for section in ["orders", "risk"] {
        let config = parse(&format!("[{section}]\nallow_short = true")).unwrap();
        assert!(config.risk.allow_short, "{section}");
    }
    check("[venues.binance]\nmarket_data = \"live\"\ninstruments = [\"A\"]", "");
    check("[venues.binance]\ninstruments = [\"A\"]", "");
    check(
        "[venues.binance]\nmarket_data = \"alive\"\ninstruments = [\"A\"]",
        "venues.binance.market_data = \"alive\": must be \"live\" or \"capture\" or \"sim\" (k.toml:2)",
    );
    check(
        "[venues.binance]\nws_public_url = \"https://a\"\ninstruments = [\"A\"]",
        "venues.binance.ws_public_url = \"https://a\": must begin with wss://, or with ws:// to this host (k.toml:2)",
    );
    check(
        "[venues.binance]\nrest_url = \"a.example\"\ninstruments = [\"A\"]",
        "venues.binance.rest_url = \"a.example\": must begin with https://, or with http:// to this host (k.toml:2)",
    );
    check(
        "[feed]\nreconnect_initial_ms = 0",
        "feed.reconnect_initial_ms = 0: must be a whole number from 1 to 60000 (k.toml:2)",
    );
    check(
        "[venues.binance]\nmarket_data = \"capture\"\ninstruments = [\"A\"]",
        "venues.binance.captures: must name at least one capture file with market_data = \"capture\"",
    );
    check(
        "[venues.binance]\nmarket_data = \"sim\"\ninstruments = [\"A\", \"A\"]",
        "venues.binance.instruments = [\"A\", \"A\"]: names one of them twice (k.toml:3)",
    );
    check(
        "[venues.binance]\nmarket_data = \"sim\"\ninstruments = []",
        "venues.binance.instruments = []: must name at least one symbol of the venue (k.toml:3)",
    );
    check(
        "[venues.bitmex]\nmarket_data = \"sim\"\ninstruments = [\"A\"]",
        "venues.bitmex.enabled: this build has no protocol for bitmex; it has binance, okx, coinbase, kraken, kucoin",
    );
    check("venues = 3", "venues = 3: must be a section with keys of its own (k.toml:1)");
    // A venue that is off is not judged.
    check("[venues.bitmex]\nenabled = false\nmarket_data = \"live\"", "");
    check("[drain.parquet]\nanything = 1\n[gateway]\nport = 2", "");
}

#[test]
fn all_problems_come_at_once() {
    let text = "[engine]\nseed = \"a\"\nring_slots = 7\n[jurnal]\n[risk]\nmax_daily_loss = -1\n";
    let found = parse(text).unwrap_err();
    let keys: Vec<_> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["engine.seed", "engine.ring_slots", "risk.max_daily_loss", "jurnal"]);
}

#[test]
fn too_many_spinning_threads_are_refused_and_the_line_says_what_to_do() {
    let four = "[cores]\nfeed = 0\njournal = 1\nstrategy = 2\nrisk = 2\nexecution = 3\n";
    let usable = [0, 1, 2, 3];
    let text = format!("{GOOD}{four}");
    let threads = |config: Config| {
        let threads = config.cores.threads();
        threads.iter().map(|it| format!("{}@{}", it.name, it.cpu)).collect::<Vec<_>>().join(" ")
    };
    let config = Config::parse("k.toml", &text, Some(&usable)).unwrap();
    assert_eq!(threads(config), "feed.binance@0 journal@1 strategy+1@2 execution@3");

    // Seats drawn on CPUs that are not there are threads of their own, and each is named as well.
    let found = Config::parse("k.toml", &text, Some(&USABLE)).unwrap_err();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    let want = [
        "cores.strategy = 2: not among the usable CPUs [0, 1] (k.toml:11)",
        "cores.risk = 2: not among the usable CPUs [0, 1] (k.toml:12)",
        "cores.execution = 3: not among the usable CPUs [0, 1] (k.toml:13)",
        "cores.wait = \"spin\": 4 spinning threads on 2 usable CPUs [0, 1]; give seats the same CPU \
         to fuse them, or set wait to \"yield\" or \"park\"",
    ];
    assert_eq!(found, want);
    let found = lines(Config::parse("k.toml", &format!("{text}wait = \"yield\"\n"), Some(&USABLE)));
    assert_eq!(found, want[..3].join("\n"));
    let found = lines(Config::parse("k.toml", &format!("{text}wait = \"spin\"\n"), Some(&USABLE)));
    assert!(found.ends_with(&format!("{} (k.toml:14)", want[3])), "{found}");
}

#[test]
fn seats_of_one_cpu_fuse_in_pipeline_order() {
    let check = |cores: &str, want: &str| {
        let config = parse(&format!("{GOOD}{cores}")).unwrap();
        let threads = config.cores.threads();
        let shown = threads.iter().map(|thread| {
            let seats: Vec<_> = thread.seats.iter().map(ToString::to_string).collect();
            format!("{}@{}[{}]", thread.name, thread.cpu, seats.join(" "))
        });
        let shown = format!(
            "{} wait {} housekeeping {:?}",
            shown.collect::<Vec<_>>().join(" "),
            config.cores.wait.text(),
            config.cores.housekeeping
        );
        assert_eq!(shown, want);
    };
    let all = "feed.binance+4@1[feed.binance journal strategy risk execution]";
    check("", &format!("{all} wait yield housekeeping [0]"));
    check("[cores]\nwait = \"park\"", &format!("{all} wait park housekeeping [0]"));
    check("[cores]\nhousekeeping = [0, 1]", &format!("{all} wait spin housekeeping [0, 1]"));
    check(
        "[cores]\nexecution = 0\nfeed = { binance = 0 }",
        "feed.binance+1@0[feed.binance execution] journal+2@1[journal strategy risk] \
         wait spin housekeeping []",
    );
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_one_line_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("k.toml");
    let load = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let sources = Sources { file: Some(file.clone()), ..Sources::default() };
        let name = file.display().to_string();
        lines(sources.load(Some(&USABLE))).replace(&name, "k.toml")
    };
    assert_eq!(load(None), "k.toml: no such file; name the configuration with --config FILE");
    let line = load(Some("[engine]\nname = demo\n"));
    assert!(line.starts_with("k.toml:2:8: "), "{line}");
    assert!(!line.contains('\n'), "{line}");
    let line = load(Some("[engine]\nseed = 1\nseed = 2\n"));
    assert!(line.starts_with("k.toml:3:1: "), "{line}");
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert_eq!(load(None), "k.toml: is not UTF-8 text");
}

fn write(base: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(base.join("config")).unwrap();
    std::fs::write(base.join("config").join(name), text).unwrap();
}

#[test]
fn later_layers_win_and_each_value_knows_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    write(base, "default.toml", &GOOD.replace("[engine]", "[engine]\nseed = 1\ntimer_ms = 1"));
    write(base, "test.toml", "[engine]\nseed = 2\ntimer_ms = 2\ncurrency = \"eur\"");
    write(base, "local.toml", "[engine]\ntimer_ms = 3");
    let mut sources = Sources { base: base.to_owned(), ..Sources::default() };
    let seen = |sources: &Sources| {
        let config = sources.load(Some(&USABLE)).unwrap();
        (config.engine.seed, config.engine.timer_ms, config.engine.currency)
    };
    assert_eq!(seen(&sources), (1, 3, "USDT".to_owned()), "development has no file");
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    sources.variables.push(variable("APP_ENV", "test"));
    assert_eq!(seen(&sources), (2, 3, "EUR".to_owned()), "local wins over the environment");
    sources.variables.push(variable("KAIROS__ENGINE__SEED", "4"));
    sources.variables.push(variable("kairos__engine__timer_ms", "9"));
    assert_eq!(seen(&sources), (4, 3, "EUR".to_owned()), "the prefix is upper case");
    sources.variables.push(variable("KAIROS__VENUES__BINANCE__INSTRUMENTS", "BTCUSDT"));
    sources.flags.push("engine.seed=5".to_owned());
    sources.flags.push("venues.binance.pace = recorded".to_owned());
    sources.flags.push("risk.max_order_notional=1000.5".to_owned());
    let config = sources.load(Some(&USABLE)).unwrap();
    assert_eq!((config.engine.seed, config.venues[0].pace), (5, Pace::Recorded));
    assert_eq!(config.venues[0].instruments, ["BTCUSDT"]);
    assert_eq!(config.risk.max_order_notional, Money(100_050_000_000));
    let origin = |wanted: &str| {
        let sources = config.sources();
        let (_, node) = sources.iter().find(|(key, _)| key == wanted).unwrap();
        node.origin.to_string().replace(&base.display().to_string(), "")
    };
    assert_eq!(origin("engine.seed"), "--set");
    assert_eq!(origin("engine.timer_ms"), "/config/local.toml:2");
    assert_eq!(origin("engine.currency"), "/config/test.toml:4");
    assert_eq!(origin("engine.name"), "/config/default.toml:5");
    let instruments = origin("venues.binance.instruments");
    assert_eq!(instruments, "variable KAIROS__VENUES__BINANCE__INSTRUMENTS");

    // A file takes the place of the layers of files, not of variables and flags.
    let file = base.join("own.toml");
    std::fs::write(&file, GOOD).unwrap();
    let own = Sources { file: Some(file), ..sources.clone() };
    assert_eq!(seen(&own), (5, 100, "USDT".to_owned()));
}

#[test]
fn wrong_variables_flags_and_environments_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "default.toml", GOOD);
    let check = |variable: Option<(&str, &str)>, flag: Option<&str>, want: &str| {
        let own = |it: (&str, &str)| (it.0.to_owned(), it.1.to_owned());
        let sources = Sources {
            base: folder.path().to_owned(),
            file: None,
            variables: variable.map(own).into_iter().collect(),
            flags: flag.map(str::to_owned).into_iter().collect(),
        };
        let found = lines(sources.load(Some(&USABLE)));
        assert_eq!(found.replace(&folder.path().display().to_string(), ""), want);
    };
    check(
        Some(("KAIROS__ENGINE__SED", "1")),
        None,
        "engine.sed: is not a known key; did you mean seed? (variable KAIROS__ENGINE__SED)",
    );
    check(
        Some(("KAIROS__ENGINE", "1")),
        None,
        "KAIROS__ENGINE: must be KAIROS__SECTION__KEY, with two underscores between",
    );
    check(
        Some(("KAIROS_ENV", "prod")),
        None,
        "KAIROS_ENV = \"prod\": must be development or test or production (variable KAIROS_ENV)",
    );
    check(
        Some(("KAIROS_ENV", "production")),
        None,
        "/config/production.toml: no such file; name the configuration with --config FILE",
    );
    check(
        Some(("KAIROS__ENGINE__SEED", "one")),
        None,
        "engine.seed = \"one\": must be a whole number of at least 0 (variable KAIROS__ENGINE__SEED)",
    );
    check(None, Some("seed=1"), "--set seed: must be section.key=value");
    check(None, Some("engine.seed"), "--set engine.seed: must be section.key=value");
    check(
        None,
        Some("engine.sede=1"),
        "engine.sede: is not a known key; did you mean seed? (--set)",
    );
    check(
        None,
        Some("engine.seed=1\nring_slots=7"),
        "engine.seed = \"1\\u000Aring_slots=7\": must be a whole number of at least 0 (--set)",
    );
    check(Some(("OTHER__ENGINE__SEED", "x")), None, "");
}

#[test]
fn a_secret_is_refused_and_never_printed() {
    let check = |text: &str, key: &str| {
        let found = parse(text).unwrap_err();
        let shown = format!("{found:?} {}", lines(Err(found.clone())));
        assert!(found.iter().any(|problem| problem.key == key), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    };
    check("[venues.binance]\napi_key = \"hunter2\"", "venues.binance.api_key");
    check("[venues.binance]\nAPI_SECRET = [\"hunter2\"]", "venues.binance.API_SECRET");
    check("[paper]\npassword = { a = \"hunter2\" }", "paper.password");
    check("[strategies.a]\nkind = \"x\"\naccess_token = \"hunter2\"", "strategies.a.access_token");
    // A file that does not parse shows its place, not its contents.
    let line = lines(parse("[venues.binance]\napi_key = hunter2"));
    assert!(line.starts_with("k.toml:2:") && !line.contains("hunter2"), "{line}");
    // The sections of others are not ours to judge, to keep or to print.
    let config = parse(&format!("{GOOD}[drain.postgres]\nurl = \"hunter2\"")).unwrap();
    assert!(!format!("{config:?}{}", config.canonical_toml()).contains("hunter2"));
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = parse("").unwrap();
    assert_eq!(config.engine.seed, 42);
    assert_eq!((config.engine.ring_slots, config.engine.timer_ms), (65_536, 100));
    assert_eq!(config.engine.currency, "USDT");
    assert_eq!(config.engine.profile, Profile::Development);
    assert_eq!(config.journal.segment_bytes, 256 << 20);
    assert_eq!(config.journal.gate, Gate::Committed);
    assert_eq!(config.journal.dir, Path::new("/var/lib/kairos/main/journal"));
    assert_eq!(config.risk, Limits::default());
    assert_eq!(config.execution.latency_ns, 30_000_000);
    assert_eq!(config.execution.jitter_ns, 5_000_000);
    assert_eq!(config.feed.stale_after_ms, 5_000);
    let venue = &parse(GOOD).unwrap().venues[0];
    assert_eq!((venue.maker_fee_ppm, venue.taker_fee_ppm), (200, 400));
    assert_eq!((venue.pace, venue.execution), (Pace::Max, ExecutionMode::Paper));
}

#[test]
fn canonical_text_alone_gives_the_same_configuration() {
    let text = format!(
        "{GOOD}pace = 10.0\n[risk]\nmax_order_notional = \"1000\"\nmax_drawdown_pct = 3e-1\n\
         [strategies.tri]\nkind = \"tri_arb\"\nmin_profit_threshold = 0.001\nlist = [1, \"a\\\"b\"]\n\
         [strategies.\"a.b\"]\nkind = \"momentum\"\n[cores]\nfeed = {{ binance = 0 }}\n\
         [instruments.BTCUSDT]\ntick_size = 1e-2\n[paper.balances]\nUSDT = 5\n"
    );
    let config = parse(&text).unwrap();
    let canonical = config.canonical_toml();
    let again = Config::parse("journal", &canonical, Some(&USABLE)).unwrap();
    assert_eq!(again.canonical_toml(), canonical);
    assert_eq!(
        Config { tree: BTreeMap::new(), ..again },
        Config { tree: BTreeMap::new(), ..config.clone() }
    );
    assert_eq!(config.risk.max_drawdown_ppm, 300_000);
    assert_eq!(config.instruments[0].tick_size.as_deref(), Some("0.01"));
    let names: Vec<_> = config.strategies.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(names, ["a.b", "tri"], "strategies are numbered in the order of their keys");

    // One more layer, and nothing else changes; CPUs of another machine do not matter.
    let layer = "[risk]\nmax_order_notional = \"10\"\n[cores]\nexecution = 99\n";
    let other = Config::layer_over(&canonical, "what.toml", layer).unwrap();
    assert_eq!(other.risk.max_order_notional, Money(1_000_000_000));
    assert_eq!(other.risk.max_drawdown_ppm, 300_000);
    let wrong = lines(Config::layer_over(&canonical, "what.toml", "[risk]\nmax_order = 1"));
    assert!(wrong.ends_with("(what.toml:2)"), "{wrong}");
}

#[test]
fn a_strategys_own_problem_gets_the_place_of_its_value() {
    let config = parse(&format!("{GOOD}[strategies.m]\nkind = \"momentum\"\nsize = 0\n")).unwrap();
    let size = params::Problem::new("size", "0", "must be positive");
    let want = "strategies.m.size = 0: must be positive (k.toml:10)";
    assert_eq!(config.strategy_problem("m", &size).to_string(), want);
    let inside = size.inside("strategies.m");
    assert_eq!(config.strategy_problem("m", &inside).to_string(), want);
}

fn describe(_: &str, symbol: &str) -> Option<Description> {
    let quote = if symbol.ends_with("USDT") { "USDT" } else { "BTC" };
    let base = symbol.strip_suffix(quote)?.to_owned();
    Some(Description { base, quote: quote.to_owned(), ..Description::default() })
}

#[test]
fn instruments_are_what_the_configuration_says_then_the_venue_then_the_defaults() {
    let text = format!(
        "{GOOD}[instruments.BTCUSDT]\nprice_scale = 2\ntick_size = \"0.05\"\nmin_qty = \"0.0015\"\n\
         lot_size = 0.001\nmin_notional = \"10\"\n"
    );
    let config = parse(&text).unwrap();
    let table = config.instrument_table(&describe).unwrap();
    let [btc, eth] = table.instruments.as_slice() else { panic!("{table:?}") };
    assert_eq!((btc.price_scale, btc.qty_scale, btc.tick), (2, 8, Price(5)));
    assert_eq!((btc.lot, btc.min_qty), (Qty(100_000), Qty(200_000)), "whole lots");
    assert_eq!((btc.min_notional, btc.taker_fee_ppm), (Money(1_000_000_000), 400));
    assert_eq!((eth.price_scale, eth.qty_scale), (10, 8));
    assert_eq!((eth.tick, eth.lot, eth.min_qty), (Price(1), Qty(1), Qty(100)));
    assert_eq!(table.currencies, ["BTC", "USDT", "ETH"]);
    let usdt = table.currency("USDT").unwrap();
    let btc = table.currency("BTC").unwrap();
    let balances = config.balances(&table);
    assert!(balances.contains(&(VenueId(0), usdt, Paper::DEFAULT_BALANCE)), "{balances:?}");
    assert!(balances.contains(&(VenueId(0), btc, Paper::DEFAULT_BALANCE)), "{balances:?}");
    assert_eq!(balances.len(), 2);
}

#[test]
fn instruments_that_cannot_be_are_problems() {
    let check = |extra: &str, want: &str| {
        let config = parse(&format!("{GOOD}{extra}")).unwrap();
        let found = config.instrument_table(&describe).unwrap_err();
        assert_eq!(lines(Err(found)), want);
    };
    check(
        "[instruments.BTCUSDT]\nprice_scale = 1\ntick_size = 0.05",
        "instruments.BTCUSDT.tick_size = 0.05: 0.05 does not fit 1 decimals: more decimals than the instrument has (k.toml:10)",
    );
    check(
        "[instruments.ETHBTC]\nbase = \"BTC\"",
        "instruments.ETHBTC.quote: must be another currency than base",
    );
    check(
        "[instruments.XRPUSDT]\nprice_scale = 1",
        "instruments.XRPUSDT: venues.binance.instruments does not name the symbol XRPUSDT",
    );
    let config = parse(GOOD).unwrap();
    let found = lines(Err(config.instrument_table(&|_, _| None).unwrap_err()));
    assert_eq!(found.lines().count(), 2, "{found}");
    let first = "instruments.BTCUSDT.base: must be written down: nobody knows the currencies of BTCUSDT at binance";
    assert!(found.starts_with(first), "{found}");
}

#[test]
fn strategies_name_instruments_in_several_ways() {
    let names = |list: &str| {
        let text = format!("{GOOD}[strategies.a]\nkind = \"k\"\n{list}\n");
        let config = parse(&text).unwrap();
        let table = config.instrument_table(&describe).unwrap();
        config.strategy_instruments(&table).map(|mut lists| lists.remove(0))
    };
    let (btc, eth) = (InstrumentId(0), InstrumentId(1));
    assert_eq!(names("").unwrap(), [btc, eth]);
    assert_eq!(names("instruments = [\"ETHBTC\", \"BTC-USDT\"]").unwrap(), [eth, btc]);
    assert_eq!(names("instruments = [\"BTC-USDT.binance\"]").unwrap(), [btc]);
    assert_eq!(names("instruments = [\"BTCUSDT.binance\"]").unwrap(), [btc]);
    let wrong = names("instruments = [\"XRP\", \"BTCUSDT\", \"BTC-USDT\"]").unwrap_err();
    let rules: Vec<_> = wrong.iter().map(|it| it.rule.as_str()).collect();
    assert_eq!(
        rules,
        ["no enabled venue trades XRP; they trade BTCUSDT, ETHBTC", "BTC-USDT is named twice"]
    );
}

#[test]
fn every_known_key_is_listed_once() {
    let keys = known_keys();
    for key in [
        "engine.ring_slots",
        "cores.wait",
        "journal.recover.mode",
        "venues.<v>.captures",
        "instruments.<name>.tick_size",
        "strategies.<id>.kind",
        "risk.max_order_notional",
        "paper.balances",
        "execution.latency_ms",
    ] {
        assert!(keys.iter().any(|known| known == key), "{key} in {keys:?}");
    }
    let mut once = keys.clone();
    once.dedup();
    assert_eq!(once, keys);
}

/// Letters that mean something to a parser, and others.
fn damaging() -> impl proptest::strategy::Strategy<Value = char> {
    prop_oneof![
        prop::sample::select("\"'[]{}=.,#\\\n\r\t 09-+eE_".chars().collect::<Vec<_>>()),
        any::<char>(),
    ]
}

proptest! {
    #[test]
    fn exponents_become_plain_digits(units in -999_999_999_i64..=999_999_999, exponent in -9_i32..=9) {
        let tree = tree::parse("x", &format!("x = {units}e{exponent}")).unwrap();
        let text = tree["x"].value.as_number_text().unwrap();
        let want = i128::from(units) * 10_i128.pow((exponent + 9).unsigned_abs());
        let got = parse_decimal(text.as_bytes(), 9).map(i128::from);
        if i64::try_from(want).is_ok() {
            prop_assert_eq!(got, Ok(want), "{}", text);
        } else {
            prop_assert!(got.is_err());
        }
    }

    #[test]
    fn any_text_is_a_configuration_or_problems(text in "\\PC{0,200}") {
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn a_damaged_file_is_a_configuration_or_problems_of_one_line(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..5_u8, damaging()), 1..8),
    ) {
        let mut text: Vec<char> = include_str!("../../../config/capture.toml").chars().collect();
        for (index, how, letter) in damage {
            let at = index.index(text.len());
            match how {
                0 => text[at] = letter,
                1 => drop(text.remove(at)),
                2 => text.insert(at, letter),
                3 => text.extend_from_within(at..),
                _ => text.truncate(at.max(1)),
            }
        }
        let text: String = text.into_iter().collect();
        match parse(&text) {
            // What is believed is what the journal keeps of it.
            Ok(config) => {
                let again = Config::parse("again", &config.canonical_toml(), Some(&USABLE));
                prop_assert_eq!(again.map(|it| it.canonical_toml()), Ok(config.canonical_toml()));
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert_eq!(problem.to_string().lines().count(), 1, "{}", problem);
                }
            }
        }
    }

    #[test]
    fn any_value_of_a_variable_survives_the_canonical_text(value in "[ -~äöü\n\t]{0,40}") {
        let sources = Sources {
            base: "/nonexistent".into(),
            flags: vec![format!("strategies.a.x={value}")],
            ..Sources::default()
        };
        let mut tree = tree::parse("x", "[strategies.a]\nkind = \"k\"").unwrap();
        let origin = Origin::Flag;
        let path: Vec<String> = ["strategies", "a", "x"].map(str::to_owned).to_vec();
        let parsed = tree::parse_value(sources.flags[0].split_once('=').unwrap().1, &origin);
        tree::merge(&mut tree, tree::nest(&path, parsed, &origin));
        let text = tree::canonical(&tree);
        let again = tree::parse("again", &text).unwrap();
        prop_assert_eq!(tree::canonical(&again), text);
    }

    #[test]
    fn money_is_read_exactly(units in 0_i64..=i64::MAX) {
        let text = Money(units).to_string();
        let config = parse(&format!("[risk]\nmax_daily_loss = \"{text}\"")).unwrap();
        prop_assert_eq!(config.risk.max_daily_loss, Money(units));
        prop_assert_eq!(parse_decimal(text.as_bytes(), MONEY_SCALE), Ok(units));
    }
}
