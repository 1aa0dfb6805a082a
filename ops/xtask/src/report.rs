//! Steps that run one after the other, and the table of what became of them.

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

enum Outcome {
    Passed(Duration),
    Failed(String),
    Skipped(String),
}

/// Runs steps and remembers how each ended; a failure does not keep the later ones from running.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<(String, Outcome)>,
}

impl Report {
    /// Runs a command to its end, its output going to the terminal. Returns whether it succeeded.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) -> bool {
        self.step(name, || match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{status}")),
            Err(error) => Err(format!("could not start: {error}")),
        })
    }

    pub(crate) fn step(&mut self, name: &str, run: impl FnOnce() -> Result<(), String>) -> bool {
        println!("\n==> {name}");
        let start = Instant::now();
        let outcome = match run() {
            Ok(()) => Outcome::Passed(start.elapsed()),
            Err(why) => {
                println!("==> {name} FAILED: {why}");
                Outcome::Failed(why)
            }
        };
        let passed = matches!(outcome, Outcome::Passed(_));
        self.steps.push((name.into(), outcome));
        passed
    }

    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        println!("\n==> {name}: SKIPPED, {why}");
        self.steps.push((name.into(), Outcome::Skipped(why.into())));
    }

    /// Prints the table; the exit code fails when any step did.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\nWhat ran:");
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        for (name, outcome) in &self.steps {
            match outcome {
                Outcome::Passed(time) => {
                    passed += 1;
                    println!("  passed   {name} ({:.0} s)", time.as_secs_f64());
                }
                Outcome::Failed(why) => {
                    failed += 1;
                    println!("  FAILED   {name}: {why}");
                }
                Outcome::Skipped(why) => {
                    skipped += 1;
                    println!("  SKIPPED  {name}: {why}");
                }
            }
        }
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
