//! Runs the binary as its users do, and never leaves a process behind.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Machines that run tests are small and busy.
pub(crate) const START: Duration = Duration::from_secs(90);
pub(crate) const STOP: Duration = Duration::from_secs(60);

pub(crate) fn cairn() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    for name in ["CAIRN_ROOT_ACCESS_KEY", "CAIRN_ROOT_SECRET_KEY", "CAIRN_LOG", "CAIRN_ADMIN"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command that ends by itself.
pub(crate) fn run(arguments: &[&str]) -> Output {
    cairn().args(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A serving process; killed when dropped.
pub(crate) struct Serving {
    pub ready: Value,
    ready_file: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Serving {
    /// Starts it in `folder` and waits until it serves.
    pub(crate) fn start(folder: &Path, name: &str, command: Command) -> Self {
        let mut serving = Self::spawn(folder, name, command);
        serving.wait();
        serving
    }

    /// Starts it in `folder`; it does not serve yet.
    pub(crate) fn spawn(folder: &Path, name: &str, mut command: Command) -> Self {
        let ready_file = folder.join(format!("{name}.ready.json"));
        let _ = fs::remove_file(&ready_file);
        let log = folder.join(format!("{name}.log"));
        let log_file = fs::File::options().create(true).append(true).open(&log).unwrap();
        command.arg("--ready-file").arg(&ready_file);
        let output = log_file.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(output).stderr(log_file).spawn().unwrap();
        Self { ready: Value::Null, ready_file, log, child }
    }

    /// Waits until its ready file is there.
    pub(crate) fn wait(&mut self) {
        let deadline = Instant::now() + START;
        while !self.ready_file.exists() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "does not serve:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.ready = serde_json::from_slice(&fs::read(&self.ready_file).unwrap()).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.ready[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.ready)).parse().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        request(self.address("admin"), "GET", path)
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.end().0
    }

    /// Waits until it ends in order; its exit code and what it logged.
    pub(crate) fn end(self) -> (Option<i32>, String) {
        let ready_file = self.ready_file.clone();
        let ended = self.killed();
        assert!(!ready_file.exists(), "the ready file outlived the process");
        ended
    }

    /// Waits until it ends, in order or not.
    pub(crate) fn killed(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + STOP;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.log());
            }
            assert!(Instant::now() < deadline, "does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP exchange by hand: the test should not share code with what it tests.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, body.to_owned())
}

/// A free port of this moment, for what must be known before it is bound.
pub(crate) fn free_udp() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn free_tcp() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
