//! A metadata store that cannot be written to any more ends its process with a clear error: going on would only refuse
//! everything, and who supervises the process would never know.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{START, STOP, cairn, free_udp, request, run};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

struct Server {
    child: Child,
    ready: Value,
}

impl Server {
    /// Started so that a write which the system refuses is an error to it, as on a full disk, and not a signal.
    fn start(root: &Path, mut command: Command) -> Self {
        let ready_file = root.join("ready.json");
        command.arg("--ready-file").arg(&ready_file);
        // Its log must not go to a file, which could not be written to either.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: a plain system call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + START;
        while !ready_file.exists() {
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "it does not serve");
            std::thread::sleep(Duration::from_millis(20));
        }
        let ready = serde_json::from_slice(&std::fs::read(&ready_file).unwrap()).unwrap();
        Self { child, ready }
    }

    /// From now on the system refuses every write that it makes to a file.
    fn refuse_writes(&self) {
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, none).unwrap();
    }

    /// Waits until it ends by itself; its exit code and its log.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + STOP;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it goes on");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn certificates(root: &Path, id: &str) -> String {
    let tls = root.join("tls").to_string_lossy().into_owned();
    assert!(run(&["cert", "new-ca", "--dir", &tls]).status.success());
    assert!(run(&["cert", "new-node", "--dir", &tls, "--id", id]).status.success());
    format!("[tls]\nca = \"tls/ca.pem\"\ncert = \"tls/{id}.pem\"\nkey = \"tls/{id}.key\"\n")
}

fn command(root: &Path, kind: &str, config: &str) -> Command {
    let path = root.join("config.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = cairn();
    command.arg(kind).arg("--config").arg(path);
    command.env("CAIRN_ROOT_ACCESS_KEY", "root").env("CAIRN_ROOT_SECRET_KEY", "rootsecret");
    command
}

fn ends_with_a_clear_error(server: Server) {
    let admin = server.ready["admin"].as_str().unwrap().parse().unwrap();
    assert_eq!(request(admin, "GET", "/readyz").0, 200);
    server.refuse_writes();
    // Readiness commits a row; nothing less would notice. The probe of before is kept for a second.
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::panic::catch_unwind(|| request(admin, "GET", "/readyz").0).is_ok_and(|status| status == 200) {
        assert!(Instant::now() < deadline, "it calls itself ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (code, log) = server.end();
    assert_eq!(code, Some(3), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("cairn: ended because") && last.contains("takes no more changes"), "{log}");
}

#[test]
fn a_metadata_server_that_cannot_write_ends() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificates(folder.path(), "meta");
    let config = format!(
        "version = 1\n[meta]\nid = \"meta\"\npath = \"store\"\nlisten = \"127.0.0.1:0\"\n{tls}[admin]\nlisten = \"127.0.0.1:0\"\n"
    );
    ends_with_a_clear_error(Server::start(folder.path(), command(folder.path(), "meta", &config)));
}

#[test]
fn a_node_whose_own_metadata_cannot_be_written_ends() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificates(folder.path(), "n1");
    let config = format!(
        "version = 1\n[node]\nid = \"n1\"\nrack = \"r1\"\nzone = \"z1\"\n\
         [[disks]]\npath = \"disk1\"\nreserved = \"16 MiB\"\nsegment = \"16 MiB\"\n\
         [[disks]]\npath = \"disk2\"\nreserved = \"16 MiB\"\nsegment = \"16 MiB\"\n\
         [listen]\nquic = \"{}\"\ngossip = \"{}\"\n{tls}[metadata]\nkind = \"embedded\"\npath = \"metadata\"\n\
         [policy]\nscheme = \"1+1\"\nsmall_scheme = \"replicated(2)\"\nfailure_domain = \"disk\"\n\
         [limits]\nmemory = \"128 MiB\"\n[s3]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        free_udp(),
        free_udp(),
    );
    ends_with_a_clear_error(Server::start(folder.path(), command(folder.path(), "node", &config)));
}
