//! The program under test: the same `main` as the one binary's.

use std::process::ExitCode;

fn main() -> ExitCode {
    postrider::main()
}
