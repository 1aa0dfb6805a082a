//! What stops a process, and how fast.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use common::{Serving, cairn, free_udp, run};
use rustix::process::Signal;

fn serve(root: &Path, kind: &str, id: &str, config: &str) -> Serving {
    serve_with(root, kind, id, config, &[])
}

fn serve_with(root: &Path, kind: &str, id: &str, config: &str, environment: &[(&str, String)]) -> Serving {
    let tls = root.join("tls").to_string_lossy().into_owned();
    if !root.join("tls").exists() {
        assert!(run(&["cert", "new-ca", "--dir", &tls]).status.success());
    }
    assert!(run(&["cert", "new-node", "--dir", &tls, "--id", id]).status.success());
    let path = root.join(format!("{id}.toml"));
    let tls = format!("[tls]\nca = \"tls/ca.pem\"\ncert = \"tls/{id}.pem\"\nkey = \"tls/{id}.key\"\n");
    std::fs::write(&path, format!("version = 1\n{config}{tls}[admin]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
    let mut command = cairn();
    command.arg(kind).arg("--config").arg(&path);
    command.env("CAIRN_ROOT_ACCESS_KEY", "root").env("CAIRN_ROOT_SECRET_KEY", "rootsecret");
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    Serving::start(root, id, command)
}

fn meta(root: &Path, listen: SocketAddr) -> Serving {
    serve(root, "meta", "meta", &meta_config(listen))
}

fn meta_config(listen: SocketAddr) -> String {
    format!("[meta]\nid = \"meta\"\npath = \"store\"\nlisten = \"{listen}\"\n")
}

/// As GNU `timeout` sends it: to the process, then to its group, a tenth of a millisecond later.
#[test]
fn two_signals_at_once_are_one_request_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let serving = meta(folder.path(), free_udp());
    for _ in 0..3 {
        serving.signal(Signal::TERM);
        std::thread::sleep(Duration::from_micros(100));
    }
    serving.signal(Signal::HUP);
    let (code, log) = serving.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped") && !log.contains("ending now"), "{log}");
}

/// A metadata server that is frozen keeps a node from stopping for a while; whoever does not want to wait says so a
/// second time.
#[test]
fn a_second_signal_after_a_second_ends_the_process_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_udp();
    let meta = meta(folder.path(), address);
    let config = format!(
        "[node]\nid = \"n1\"\nrack = \"r1\"\nzone = \"z1\"\n\
         [[disks]]\npath = \"disk1\"\nreserved = \"16 MiB\"\nsegment = \"16 MiB\"\n\
         [[disks]]\npath = \"disk2\"\nreserved = \"16 MiB\"\nsegment = \"16 MiB\"\n\
         [listen]\nquic = \"{}\"\ngossip = \"{}\"\n\
         [metadata]\nkind = \"remote\"\naddress = \"{address}\"\nserver = \"meta\"\n\
         [policy]\nscheme = \"1+1\"\nsmall_scheme = \"replicated(2)\"\nfailure_domain = \"disk\"\n\
         [limits]\nmemory = \"128 MiB\"\n[s3]\nlisten = \"127.0.0.1:0\"\n",
        free_udp(),
        free_udp(),
    );
    let node = serve(folder.path(), "node", "n1", &config);
    meta.signal(Signal::STOP);
    let deadline = Instant::now() + Duration::from_secs(60);
    while node.get("/readyz").0 == 200 {
        assert!(Instant::now() < deadline, "{}", node.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    node.signal(Signal::TERM);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !node.log().contains("stopping") {
        assert!(Instant::now() < deadline, "{}", node.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    // The rule itself is about time: one second after the first.
    std::thread::sleep(Duration::from_millis(1100));
    node.signal(Signal::TERM);
    let (code, log) = node.killed();
    assert_eq!(code, Some(130), "{log}");
    assert!(log.contains("another signal: ending now"), "{log}");
}

/// What systemd's `Type=notify` waits for, and its watchdog.
#[test]
fn a_service_manager_is_told_what_becomes_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_string_lossy().into_owned()), ("WATCHDOG_USEC", "300000".to_owned())];
    let serving = serve_with(folder.path(), "meta", "meta", &meta_config(free_udp()), &environment);
    let hear = |wanted: &str| {
        let mut heard = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error} before {wanted}: {heard:?}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line == wanted) {
                return text;
            }
            heard.push(text);
        }
    };
    let ready = hear("READY=1");
    assert!(ready.contains("STATUS=serves metadata at 127."), "{ready}");
    for _ in 0..3 {
        hear("WATCHDOG=1");
    }
    serving.signal(Signal::TERM);
    hear("STOPPING=1");
    assert_eq!(serving.end().0, Some(0));
}
