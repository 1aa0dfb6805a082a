//! A disk in a process of its own, which does what it is told line by line: so that errors can be injected into its
//! system calls, and so that what it was acknowledged is remembered outside.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use cairn_disk::DiskHandle;
use cairn_fragment::DiskError;

use crate::{
    common::{fragment, name, options, payload, whole},
    mount::skipped,
};

const FOLDER: &str = "CAIRN_TEST_DISK";
const PATIENCE: Duration = Duration::from_secs(30);
/// Before each answer, to tell it from what the test harness prints.
const ANSWER: &str = "> ";

/// The other process. Each test file that uses it has a test named `child` that calls [`serve_if_child`].
pub(crate) struct DiskProcess {
    process: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
}

impl DiskProcess {
    /// Opens the disk at `dir` there.
    pub(crate) fn start(dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(FOLDER, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, answers) = channel();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, answer)) = line.split_once(ANSWER) {
                    let _ = sender.send(answer.to_owned());
                }
            }
        });
        let stdin = process.stdin.take().unwrap();
        let disk = Self { process, stdin, answers };
        assert_eq!(disk.answer(), "ok", "the disk was not opened");
        disk
    }

    fn answer(&self) -> String {
        self.answers.recv_timeout(PATIENCE).expect("the disk's process does not answer")
    }

    /// `ok …`, or the error's kind and text.
    pub(crate) fn ask(&mut self, what: &str) -> String {
        writeln!(self.stdin, "{what}").unwrap();
        self.answer()
    }

    /// Puts all of `numbers` at once and tells which were acknowledged, and why the others were not.
    pub(crate) fn put_many(&mut self, numbers: std::ops::Range<u32>, length: usize) -> Vec<(u32, String)> {
        let answer = self.ask(&format!("put-many {} {} {length}", numbers.start, numbers.end));
        let words = answer.strip_prefix("ok ").unwrap();
        numbers.zip(words.split(' ').map(str::to_owned)).collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn close(mut self) {
        assert_eq!(self.ask("close"), "ok");
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for DiskProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In the child process: does what it is told until it is told to close. Elsewhere: nothing.
pub(crate) fn serve_if_child() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let disk = match DiskHandle::open(options(Path::new(&dir))) {
        Ok(disk) => disk,
        Err(error) => return println!("{ANSWER}{} {error}", error.kind()),
    };
    println!("{ANSWER}ok");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = runtime.block_on(answer(&disk, &words));
        println!("{ANSWER}{}", answer.unwrap_or_else(|error| format!("{} {error}", error.kind())));
        if words[0] == "close" {
            return;
        }
    }
}

async fn answer(disk: &DiskHandle, words: &[&str]) -> Result<String, DiskError> {
    let number = |at: usize| words[at].parse::<u32>().unwrap();
    match words[0] {
        "put" => disk.put(fragment(number(1), number(2) as usize)).await?,
        "put-many" => {
            let length = number(3) as usize;
            let puts = (number(1)..number(2)).map(|n| disk.put(fragment(n, length)));
            let done = futures::future::join_all(puts).await;
            let words: Vec<&str> =
                done.iter().map(|done| done.as_ref().map_or_else(|error| error.kind(), |()| "ok")).collect();
            return Ok(format!("ok {}", words.join(" ")));
        }
        "get" => {
            let bytes = whole(disk, number(1)).await?;
            assert_eq!(bytes, payload(number(1), bytes.len()), "wrong bytes served");
        }
        "verify" => drop(disk.verify(name(number(1))).await?),
        "delete" => return Ok(format!("ok {}", disk.delete(vec![name(number(1))]).await?)),
        "checkpoint" => disk.checkpoint().await?,
        "damage" => return Ok(format!("ok {}", disk.metrics().checksum_failures.get())),
        "status" => {
            let status = disk.status();
            return Ok(format!("ok writable={} failed={}", status.writable, status.failed.is_some()));
        }
        "latencies" => {
            let status = disk.status();
            return Ok(format!("ok {} {}", status.read_us, status.write_us));
        }
        "close" => disk.close().await,
        other => panic!("what is {other}?"),
    }
    Ok("ok".into())
}

/// `strace` at work on a process, making some of its system calls fail. Dropping it lets the process go.
pub(crate) struct Injection {
    strace: Child,
    log: tempfile::NamedTempFile,
}

impl Injection {
    /// None, said loudly, where strace is absent or not allowed. `what`: as for `strace -e inject=`.
    pub(crate) fn into(disk: &DiskProcess, what: &str) -> Option<Self> {
        let calls = what.split(':').next().unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let spawned = Command::new("strace")
            .args([
                "-f",
                "-p",
                &disk.pid().to_string(),
                "-e",
                &format!("trace={calls}"),
                "-e",
                &format!("inject={what}"),
                "-o",
            ])
            .arg(log.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut strace = match spawned {
            Ok(strace) => strace,
            Err(error) => {
                skipped("I/O errors injected from outside", &format!("strace: {error}"));
                return None;
            }
        };
        let said = BufReader::new(strace.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut all = String::new();
        let (sender, attached) = channel();
        std::thread::spawn(move || {
            for line in said {
                all = format!("{all}{line}\n");
                if line.contains("attached") {
                    let _ = sender.send(Ok(()));
                }
            }
            let _ = sender.send(Err(all));
        });
        let injection = Self { strace, log };
        match attached.recv_timeout(PATIENCE).expect("strace says nothing") {
            Ok(()) => Some(injection),
            Err(said) => {
                skipped("I/O errors injected from outside", said.trim());
                None
            }
        }
    }

    /// How many system calls it made fail so far.
    pub(crate) fn injected(&self) -> usize {
        std::fs::read_to_string(self.log.path()).unwrap().matches("(INJECTED)").count()
    }

    /// Lets the process go; returns how many system calls were made to fail.
    pub(crate) fn end(mut self) -> usize {
        self.detach();
        self.injected()
    }

    fn detach(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.strace);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.strace.wait();
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.detach();
    }
}
