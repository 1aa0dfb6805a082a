//! What disks do on bad days, made by `strace`: system calls on some files of a running process fail, or take long.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Until it is dropped, system calls of a process go wrong.
pub struct Injection {
    strace: Child,
}

impl Injection {
    /// `what` as `strace -e inject=` has it, done to calls on `files` only. Err says why it cannot be done here:
    /// `strace` is absent, or not allowed to.
    pub fn into(pid: u32, what: &str, files: &[PathBuf]) -> Result<Self, String> {
        let calls = what.split(':').next().unwrap_or(what);
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={calls}"), "-e", &format!("inject={what}")]);
        command.args(["-o", "/dev/null"]);
        for file in files {
            command.arg("-P").arg(file);
        }
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut injection = Self { strace: spawned.map_err(|error| format!("strace: {error}"))? };
        let said = injection.strace.stderr.take().ok_or("strace has no standard error")?;
        let (sender, attached) = channel();
        std::thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                if line.contains("attached") {
                    // Whoever waited may have gone.
                    let _ = sender.send(Ok(()));
                }
                all = format!("{all}{line}\n");
            }
            let _ = sender.send(Err(all));
        });
        attached.recv_timeout(PATIENCE).map_err(|_| "strace says nothing".to_owned())??;
        Ok(injection)
    }
}

impl Drop for Injection {
    /// It lets go of the process; a kill would as well, but might leave a call half done.
    fn drop(&mut self) {
        if self.strace.try_wait().ok().flatten().is_none() {
            // SAFETY: plain system call; the id is that of a child not yet waited for, so it names no other process.
            unsafe { libc::kill(self.strace.id() as libc::pid_t, libc::SIGINT) };
        }
        let _ = self.strace.wait();
    }
}
