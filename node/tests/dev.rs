//! `cairn dev` as a process: it serves, says so, stops in order, and finds its data again.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use common::{Serving, cairn, request, run, text};

fn dev(data: &Path, more: &[&str]) -> Command {
    let mut command = cairn();
    command.arg("dev").arg("--data").arg(data).args(["--s3", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(more);
    command
}

#[test]
fn dev_serves_stops_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Serving::start(folder.path(), "dev", dev(&data, &[]));

    let (status, body) = first.get("/readyz");
    assert_eq!(status, 200, "{body}\n{}", first.log());
    assert_eq!(first.get("/healthz").0, 200);
    assert_eq!(first.get("/nothing").0, 404);
    assert_eq!(request(first.address("admin"), "POST", "/readyz").0, 405);
    let (_, metrics) = first.get("/metrics");
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total", "node=\"n6\""] {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }
    let status = first.json("/v1/status");
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(6), "{status}");
    let disks: usize =
        status["nodes"].as_array().unwrap().iter().map(|node| node["disks"].as_array().unwrap().len()).sum();
    assert_eq!(disks, 12);
    assert_eq!(status["missing_fragments"], 0);
    assert_eq!(first.ready["nodes"].as_array().map(Vec::len), Some(6));
    // Unsigned: refused, but by S3.
    assert_eq!(request(first.address("s3"), "GET", "/").0, 403);

    let admin = format!("http://{}", first.address("admin"));
    let words = run(&["status", "--admin", &admin]);
    assert!(text(&words.stdout).contains("6 nodes in 6 racks, 12 disks"), "{}", text(&words.stdout));
    let json = run(&["status", "--json", "--admin", &admin]);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&json.stdout).unwrap()["cluster"], status["cluster"]);

    // The data folder has one user at a time.
    let second = dev(&data, &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("in use by another"), "{}", text(&second.stderr));

    // Nor can its metadata be exported meanwhile; afterwards it can, and moves to another store.
    let (backup, elsewhere) = (folder.path().join("backup"), folder.path().join("elsewhere"));
    let (backup, elsewhere) = (backup.to_string_lossy(), elsewhere.to_string_lossy());
    let export = |out: &str| run(&["admin", "metadata", "export", "--data", &data.to_string_lossy(), "--out", out]);
    let busy = export(&backup);
    assert!(text(&busy.stderr).contains("in use by another process"), "{}", text(&busy.stderr));

    assert_eq!(first.terminate(), Some(0));

    let exported = export(&backup);
    assert!(text(&exported.stdout).contains("exported"), "{}", text(&exported.stderr));
    assert!(text(&export(&backup).stderr).contains("refuse to overwrite"));
    let import = || run(&["admin", "metadata", "import", "--data", &elsewhere, "--in", &backup]);
    let imported = import();
    assert!(text(&imported.stdout).contains("imported"), "{}", text(&imported.stderr));
    assert!(text(&import().stderr).contains("not empty"));
    let nowhere = run(&["admin", "metadata", "export", "--data", "/nowhere", "--out", "/nowhere/backup"]);
    assert!(text(&nowhere.stderr).contains("no metadata store"), "{}", text(&nowhere.stderr));

    // Where everything should be, and what a disk has.
    let placement = run(&["admin", "metadata", "placement", "--data", &data.to_string_lossy()]);
    assert!(placement.status.success(), "{}", text(&placement.stderr));
    let said = text(&placement.stdout);
    let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |what: &str| lines.iter().filter(|line| line.get(what).is_some()).count();
    assert_eq!(of("disk"), 12, "{said}");
    assert!(of("group") > 0 && of("disk") + of("group") + of("blob") == lines.len(), "{said}");
    let group = &lines.iter().find_map(|line| line.get("group").filter(|group| group["scheme"] == "4+2")).unwrap();
    assert_eq!((&group["data"], &group["parity"]), (&4.into(), &2.into()), "{said}");
    assert_eq!(group["members"].as_array().map(Vec::len), Some(6), "{said}");
    let disk = data.join("nodes/n1/disk1");
    let listed = run(&["disk", "list", "--json", "--digests", &disk.to_string_lossy()]);
    let said = text(&listed.stdout);
    let head: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!(head["cluster"], status["cluster"], "{said}");
    assert_eq!(head["fragments"].as_u64(), Some(said.lines().count() as u64 - 1), "{said}");

    // Its disks can be looked into.
    for command in ["inspect", "list", "verify", "rebuild-index"] {
        let output = run(&["disk", command, &disk.to_string_lossy()]);
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains("disk"), "{}", text(&output.stdout));
    }

    let fewer = dev(&data, &["--racks", "3"]).output().unwrap();
    assert_eq!(fewer.status.code(), Some(1));
    assert!(text(&fewer.stderr).contains("can only grow"), "{}", text(&fewer.stderr));

    let again = Serving::start(folder.path(), "dev", dev(&data, &[]));
    let status_again = again.json("/v1/status");
    assert_eq!(status_again["cluster"], status["cluster"], "the same cluster");
    let ids = |status: &serde_json::Value| {
        let nodes = status["nodes"].as_array().unwrap().iter();
        let mut ids: Vec<_> =
            nodes.flat_map(|node| node["disks"].as_array().unwrap()).map(|disk| disk["id"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&status_again), ids(&status), "the same disks");
    assert_eq!(again.get("/readyz").0, 200, "{}", again.log());
    again.signal(rustix::process::Signal::TERM);
    let (code, log) = again.end();
    assert_eq!(code, Some(0));
    // Starts and stops are ordinary: an operator who is warned of them does not read the next warning.
    assert_eq!(alarming(&log), Vec::<&str>::new());
    assert!(log.contains("a disk is up"), "{log}");
}

/// As when a terminal is closed or a machine loses power: nothing to be alarmed by either.
#[test]
fn dev_that_was_killed_before_its_first_checkpoint_starts_again_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Serving::start(folder.path(), "killed", dev(&data, &[]));
    // It writes a row and an object.
    assert_eq!(first.get("/readyz").0, 200, "{}", first.log());
    first.signal(rustix::process::Signal::KILL);
    assert_eq!(first.killed().0, None);
    let again = Serving::start(folder.path(), "again", dev(&data, &[]));
    assert_eq!(again.get("/readyz").0, 200, "{}", again.log());
    again.signal(rustix::process::Signal::TERM);
    let (code, log) = again.end();
    assert_eq!(code, Some(0));
    assert!(log.contains("before it wrote its index"), "{log}");
    assert_eq!(alarming(&log), Vec::<&str>::new());
}

fn alarming(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR ")).collect()
}

#[test]
fn one_machine_with_six_disks_is_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--racks", "1", "--disks", "6", "--failure-domain", "disk", "--log-format", "json"];
    let serving = Serving::start(folder.path(), "dev", dev(&folder.path().join("data"), &arguments));
    assert_eq!(serving.get("/readyz").0, 200, "{}", serving.log());
    assert!(serving.log().lines().all(|line| line.starts_with('{')), "{}", serving.log());
    assert_eq!(serving.terminate(), Some(0));
}

#[test]
fn disks_that_are_down_can_be_given_up_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data_text = data.to_string_lossy().into_owned();
    let give_up = |which: &[&str]| run(&[&["admin", "give-up", "--data", &data_text], which].concat());

    let first = Serving::start(folder.path(), "dev", dev(&data, &[]));
    let busy = give_up(&["--node", "n1"]);
    assert!(text(&busy.stderr).contains("in use by another process"), "{}", text(&busy.stderr));
    // Killed: nobody has called its disks down.
    drop(first);
    let up = give_up(&["--node", "n1"]);
    assert_eq!(up.status.code(), Some(1));
    assert!(text(&up.stderr).contains("is up: stop its node first"), "{}", text(&up.stderr));

    let second = Serving::start(folder.path(), "dev", dev(&data, &[]));
    assert_eq!(second.terminate(), Some(0));
    for (which, name) in [(["--node", "n9"], "node n9"), (["--rack", "z1/r9"], "rack z1/r9")] {
        let unknown = give_up(&which);
        assert!(text(&unknown.stderr).contains(&format!("no {name} is registered")), "{}", text(&unknown.stderr));
    }
    let given_up = give_up(&["--node", "n2"]);
    assert!(text(&given_up.stdout).contains("2 disks given up"), "{}", text(&given_up.stderr));

    // They come back when their node does.
    let third = Serving::start(folder.path(), "dev", dev(&data, &[]));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = third.json("/v1/status");
        let disks = status["nodes"].as_array().unwrap().iter().flat_map(|node| node["disks"].as_array().unwrap());
        if disks.filter(|disk| disk["state"] == "up").count() == 12 {
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(third.terminate(), Some(0));
}

/// A user from its creation to its deletion, by the commands; its secret is told once and nowhere else.
#[test]
fn users_are_made_and_asked_about_by_commands_and_their_secrets_stay_secret() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let serving = Serving::start(folder.path(), "dev", dev(&data, &[]));
    let address = serving.address("admin");
    let admin = format!("http://{address}");
    let access = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = run(&[&["admin", "access"], &arguments[..], &["--admin", &admin]].concat());
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let done = |arguments: &str| {
        let (code, said) = access(arguments);
        assert_eq!(code, Some(0), "{arguments}: {said}");
        said
    };
    let policy = folder.path().join("policy.json");
    let statement = r#"{"Sid":"Cats","Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::cats/*"}"#;
    std::fs::write(&policy, format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)).unwrap();
    let file = policy.display();
    done("user create alice");
    done("group create readers");
    done(&format!("policy put cats --file {file}"));
    done("group attach readers cats");
    done("user join alice readers");
    assert_eq!(done("user list"), "alice\n");
    let made: serde_json::Value = serde_json::from_str(&done("key create alice --expires-in 1h --json")).unwrap();
    let (key, secret) = (made["access_key"].as_str().unwrap(), made["secret_key"].as_str().unwrap());
    assert!(secret.len() == 40 && key.len() == 20, "{made}");
    let asked =
        |action: &str| done(&format!("explain --user alice --action {action} --resource arn:aws:s3:::cats/tom"));
    let said = asked("s3:GetObject");
    assert!(said.contains("allowed by statement 1, Sid \"Cats\"") && said.contains("group readers"), "{said}");
    assert!(asked("s3:PutObject").contains("not allowed"));
    let shown = done("user show alice");
    assert!(shown.contains(key) && shown.contains("readers") && !shown.contains(secret), "{shown}");
    let rotated = done(&format!("key rotate {key} --grace 1min"));
    assert!(rotated.contains("not shown again") && !rotated.contains(key), "{rotated}");

    std::fs::write(&policy, r#"{"Version":"2012-10-17","Statement":[{"Effect":"Maybe"}]}"#).unwrap();
    for (wrong, why) in [
        (format!("policy put wrong --file {file}"), "this is no policy"),
        ("user create alice".to_owned(), "exists already"),
        ("user delete alice".to_owned(), "delete its keys first"),
        ("group delete readers".to_owned(), "user alice, who is in it"),
        ("policy delete cats".to_owned(), "still used by user group readers"),
        ("user show bob".to_owned(), "does not exist"),
    ] {
        let (code, said) = access(&wrong);
        assert!(code == Some(1) && said.contains(why), "{wrong}: {said}");
    }
    // Who may do what is told to nobody who merely reads, and a page in a browser cannot ask.
    assert_eq!(request(address, "GET", "/v1/access").0, 405);
    assert_eq!(request(address, "POST", "/v1/access").0, 415);

    assert!(!serving.log().contains(secret));
    assert_eq!(serving.terminate(), Some(0));
    let backup = folder.path().join("backup");
    let (from, to) = (data.to_string_lossy(), backup.to_string_lossy());
    let exported = run(&["admin", "metadata", "export", "--data", &from, "--out", &to]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let holds = |file: &Path, words: &str| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(words.len()).any(|window| window == words.as_bytes())
    };
    assert!(holds(&backup, key) && !holds(&backup, secret));
    let checked = run(&["admin", "metadata", "check", "--data", &from]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
}
