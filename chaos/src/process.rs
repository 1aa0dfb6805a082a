//! Processes from outside: started, signalled by their own id, and what the kernel says of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::error::ChaosError;

/// A child that dies with this value; its output goes to a log file.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, appending what it prints to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self, ChaosError> {
        let failed = |error: std::io::Error| ChaosError::Start { name: name.into(), why: error.to_string() };
        let out = fs::OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(failed)?;
        Ok(Self { name: name.into(), child, log: log.into() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL: nothing in the process runs any more when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, then waits for a clean end.
    pub fn terminate(&mut self, within: Duration) -> Result<(), ChaosError> {
        self.signal(libc::SIGTERM);
        let ends = Instant::now() + within;
        loop {
            if let Some(status) = self.exited() {
                let failed = || ChaosError::Exited { name: self.name.clone(), status, log: self.log_tail() };
                return if status.success() { Ok(()) } else { Err(failed()) };
            }
            if Instant::now() > ends {
                self.kill();
                return Err(ChaosError::NotInTime { what: format!("{} to stop", self.name), detail: self.log_tail() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: plain system call; the id is that of a child not yet waited for, so it names no other process.
        unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
    }

    /// The last lines it printed.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end; what it printed.
pub(crate) fn run(mut command: Command, what: &str) -> Result<String, ChaosError> {
    let output = command.output().map_err(ChaosError::io(what))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // What it printed may be a list of thousands of lines, and the reason is at its end.
    let tail = why.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
    Err(ChaosError::Io { what: what.into(), why: why[tail..].to_owned() })
}

/// Processor seconds a process has used, user and system; None when it is gone.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces: count fields after it. Fields 14 and 15 of proc(5) are utime and stime.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // SAFETY: a query without side effects.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(ticks as f64 / per_second as f64)
}

/// The most memory a process has had resident at once, in bytes.
pub fn peak_rss_bytes(pid: u32) -> Option<u64> {
    status_kib(pid, "VmHWM:").map(|kib| kib * 1024)
}

/// The memory a process has resident now, in bytes.
pub fn rss_bytes(pid: u32) -> Option<u64> {
    status_kib(pid, "VmRSS:").map(|kib| kib * 1024)
}

/// Starts the count of [`peak_rss_bytes`] anew.
pub fn reset_peak_rss(pid: u32) -> std::io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

fn status_kib(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
