//! The boto3 workload as a process: commands go in, one line of JSON comes back for each.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{
    ChaosError,
    cluster::{ACCESS_KEY, SECRET_KEY},
    setting::Setting,
};

/// How long a reader tries again before an object counts as lost.
const READABLE: Duration = Duration::from_secs(60);

pub(super) struct Workload {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Workload {
    pub(super) fn start(setting: &Setting, endpoint: &str) -> Result<Self, ChaosError> {
        let lost = || ChaosError::Workload("its pipes are gone".into());
        let mut child = Command::new(&setting.python)
            .arg(setting.clients.join("racks_workload.py"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("CAIRN_ENDPOINT", endpoint)
            .env("CAIRN_SEED", setting.seed.to_string())
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(ChaosError::io("start the boto3 workload"))?;
        let commands = child.stdin.take().ok_or_else(lost)?;
        let answers = BufReader::new(child.stdout.take().ok_or_else(lost)?);
        Ok(Self { child, commands, answers })
    }

    /// Sends one command and returns its answer.
    pub(super) fn ask(&mut self, command: &str) -> Result<Value, ChaosError> {
        let failed = |why: String| ChaosError::Workload(format!("{command}: {why}"));
        writeln!(self.commands, "{command}").map_err(|error| failed(error.to_string()))?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&line).map_err(|error| failed(format!("{error} in {line:?}")))
    }

    /// DUR-1, CON-1: every acknowledged object reads back whole.
    pub(super) fn verify(&mut self, when: &str) -> Result<(), ChaosError> {
        let answer = self.ask(&format!("verify {}", READABLE.as_secs()))?;
        let empty = |field: &str| match &answer[field] {
            Value::Array(some) => some.is_empty(),
            Value::Object(some) => some.is_empty(),
            _ => false,
        };
        if !empty("wrong") {
            return Err(ChaosError::Violated { invariant: "INT-1", what: format!("{when}: {}", answer["wrong"]) });
        }
        if !empty("unread") {
            return Err(ChaosError::Violated { invariant: "DUR-1", what: format!("{when}: {}", answer["unread"]) });
        }
        println!("   {} acknowledged objects read back {when}", answer["verified"]);
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
