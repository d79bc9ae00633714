//! The same captures and the same configuration give the same logical frames; other ones do not.

use std::process::Command;

use kairos_logic::event::News;

use crate::harness::{Setup, map};
use crate::process::{config_file, say};

fn fingerprint(setup: &Setup) -> [u8; 32] {
    let (digest, frames) = kairos_journal::fingerprint(&setup.journal_dir()).unwrap();
    assert!(frames > 1_000, "{frames} frames");
    let content = setup.content();
    assert!(content.decisions.len() > 20, "{} decisions", content.decisions.len());
    let fills = content.events.iter().filter(|it| matches!(it.1.news(), News::Fill { .. })).count();
    assert!(fills > 5, "{fills} fills");
    digest
}

fn run(seed: u64, change: impl FnOnce(&mut Setup)) -> [u8; 32] {
    let mut setup = Setup::seeded(seed, 15);
    // The directory is part of the configuration and so of the journal: keep it the same.
    change(&mut setup);
    setup.run();
    fingerprint_of_inputs_and_decisions(&setup)
}

/// Inputs and decisions with their sequence numbers; the configuration names this test's own
/// temporary directories, so it is left out.
fn fingerprint_of_inputs_and_decisions(setup: &Setup) -> [u8; 32] {
    let _whole = fingerprint(setup);
    let content = setup.content();
    let mut hasher = blake3::Hasher::new();
    for (seq, event) in &content.events {
        hasher.update(&seq.to_le_bytes());
        hasher.update(&event.logical());
    }
    for (seq, decision) in &content.decisions {
        hasher.update(&seq.to_le_bytes());
        hasher.update(decision.payload());
    }
    *hasher.finalize().as_bytes()
}

#[test]
fn one_thread_repeats_itself_at_any_pace_and_another_seed_does_not() {
    let first = run(11, |_| {});
    assert_eq!(first, run(11, |_| {}), "the same run twice");
    assert_eq!(first, run(11, |setup| setup.pace = "30.0".into()), "at another pace");
    assert_ne!(first, run(12, |_| {}), "another seed");
    let slower =
        |setup: &mut Setup| setup.more = setup.more.replace("latency_ms = 2", "latency_ms = 9");
    assert_ne!(first, run(11, slower), "another latency");
}

#[test]
fn a_run_in_the_same_directory_has_the_same_fingerprint() {
    let setup = Setup::seeded(13, 10);
    setup.run();
    let first = fingerprint(&setup);
    std::fs::remove_dir_all(setup.journal_dir()).unwrap();
    setup.run();
    assert_eq!(first, fingerprint(&setup));
}

#[test]
fn neither_the_host_nor_its_customs_are_part_of_a_digest() {
    let mut setup = Setup::seeded(14, 15);
    let run = |setup: &Setup, program: &mut Command| {
        let _none = std::fs::remove_dir_all(setup.journal_dir());
        let said = say(program.args(["run", "--config"]).arg(config_file(setup)));
        assert_eq!(said.status, Some(0), "{said:?}");
        fingerprint_of_inputs_and_decisions(setup)
    };
    let engine = env!("CARGO_BIN_EXE_kairos-engine");
    let plain = run(&setup, &mut Command::new(engine));
    let abroad = [("LC_ALL", "de_DE.UTF-8"), ("TZ", "Asia/Kathmandu"), ("HOME", "/nowhere")];
    assert_eq!(plain, run(&setup, Command::new(engine).envs(abroad)), "customs");
    let cpu = kairos_engine::pin::usable_cpus().unwrap()[0];
    setup.cores = map(cpu, cpu, cpu, cpu, cpu);
    assert_eq!(plain, run(&setup, &mut Command::new(engine)), "another CPU");
    let one = ["-c", &cpu.to_string(), engine];
    assert_eq!(plain, run(&setup, Command::new("taskset").args(one)), "no other CPU");
}
