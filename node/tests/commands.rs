//! Commands that end by themselves: what they print, and how they end.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::Stdio,
};

use common::{run, text};

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/config").join(name).to_string_lossy().into_owned()
}

#[test]
fn config_check_takes_the_examples_and_names_what_is_wrong() {
    for name in ["node.toml", "node-fdb.toml", "meta.toml"] {
        let output = run(&["config", "check", "--syntax-only", &example(name)]);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
    }
    // The examples' certificates are not on this machine.
    let output = run(&["config", "check", &example("node.toml")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("tls.ca: /etc/cairn/tls/ca.pem cannot be read"), "{}", text(&output.stderr));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "version = 1\n[node]\nid = \"n1\"\nrakc = \"r1\"\n").unwrap();
    let output = run(&["config", "check", &file.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("node.toml:4: node.rakc: unknown field `rakc`"), "{said}");

    let output = run(&["config", "check", "/nowhere/node.toml"]);
    assert!(text(&output.stderr).contains("/nowhere/node.toml: cannot be read"), "{}", text(&output.stderr));
}

#[test]
fn certificates_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("tls");
    let dir = dir.to_string_lossy();
    assert!(run(&["cert", "new-ca", "--dir", &dir]).status.success());
    assert!(run(&["cert", "new-node", "--dir", &dir, "--id", "n1"]).status.success());
    for again in [vec!["cert", "new-ca", "--dir", &dir], vec!["cert", "new-node", "--dir", &dir, "--id", "n1"]] {
        let output = run(&again);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("refuse to overwrite"), "{}", text(&output.stderr));
    }
}

#[test]
fn dev_refuses_what_cannot_work_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_string_lossy();
    for (arguments, reason) in [
        (vec!["--racks", "1", "--disks", "6"], "--failure-domain disk, which fits as it is"),
        (vec!["--scheme", "8+4", "--disks", "1"], "12 disks in all"),
        (vec!["--admin", "0.0.0.0:0"], "--admin-allow-remote"),
    ] {
        let output = run(&[vec!["dev", "--data", &data], arguments].concat());
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains(reason), "{said}");
        assert!(output.stdout.is_empty());
    }
    assert!(!Path::new(&*data).join("dev.toml").exists(), "a refused layout is not recorded");
}

#[test]
fn status_says_when_nobody_is_there() {
    let nobody = common::free_tcp().to_string();
    let output = run(&["status", "--admin", &nobody]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("is Cairn running"), "{}", text(&output.stderr));
}

#[test]
fn version_names_the_build() {
    let output = run(&["version"]);
    assert!(text(&output.stdout).starts_with("cairn 0."), "{}", text(&output.stdout));
}

/// A store that is away is waited for, with a word about what and for how long, and the wait can be given up.
#[test]
fn a_command_says_what_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path().join("tls").to_string_lossy().into_owned();
    assert!(run(&["cert", "new-ca", "--dir", &tls]).status.success());
    assert!(run(&["cert", "new-node", "--dir", &tls, "--id", "n1"]).status.success());
    let nobody = common::free_udp();
    let text = std::fs::read_to_string(example("node.toml")).unwrap();
    let (head, rest) = text.split_once("[metadata]").unwrap();
    let (_, rest) = rest.split_once("[policy]").unwrap();
    let text =
        format!("{head}[metadata]\nkind = \"remote\"\naddress = \"{nobody}\"\nserver = \"meta\"\n[policy]{rest}");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, text.replace("/etc/cairn/tls", &tls)).unwrap();
    let (file, out) = (file.to_string_lossy().into_owned(), folder.path().join("out").to_string_lossy().into_owned());
    std::fs::write(folder.path().join("in"), "").unwrap();
    let input = folder.path().join("in").to_string_lossy().into_owned();
    for arguments in [
        vec!["check", "--config", &file],
        vec!["export", "--config", &file, "--out", &out],
        vec!["import", "--config", &file, "--in", &input],
    ] {
        let mut command = common::cairn();
        command.args(["admin", "metadata"]).args(&arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("waiting for meta on {nobody}, for at most ")), "{arguments:?}: {line}");
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        line.clear();
        said.read_to_string(&mut line).unwrap();
        assert!(line.contains("stopped before it was done"), "{line}");
        assert_eq!(status.code(), Some(1));
    }
}
