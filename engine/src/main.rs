//! The engine's binary, with the strategies that kairos ships.

use std::process::ExitCode;

use kairos_logic::strategy::Registry;

fn main() -> ExitCode {
    kairos_engine::main_with(&Registry::shipped())
}
