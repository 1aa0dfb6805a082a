//! A cluster of real processes: a metadata server and three nodes, one of which dies and returns.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use common::{Serving, cairn, free_tcp, free_udp, request, run, text};
use serde_json::Value;

const NODES: usize = 3;
/// Gossip must suspect, a probe confirm, and the metadata store decide.
const NOTICED: Duration = Duration::from_secs(60);

fn serve(kind: &str, config: &Path) -> Command {
    let mut command = cairn();
    command.arg(kind).arg("--config").arg(config);
    command.env("CAIRN_ROOT_ACCESS_KEY", "testroot").env("CAIRN_ROOT_SECRET_KEY", "testrootsecret");
    command
}

fn tls(id: &str) -> String {
    format!("[tls]\nca = \"tls/ca.pem\"\ncert = \"tls/{id}.pem\"\nkey = \"tls/{id}.key\"\n")
}

/// A metadata server in `root`, at an address that the nodes know.
fn metadata_server(root: &Path, listen: SocketAddr) -> Serving {
    let config = format!(
        "version = 1\n[meta]\nid = \"meta\"\npath = \"meta\"\nlisten = \"{listen}\"\n{}[admin]\nlisten = \"127.0.0.1:0\"\n",
        tls("meta")
    );
    fs::write(root.join("meta.toml"), config).unwrap();
    Serving::start(root, "meta", serve("meta", &root.join("meta.toml")))
}

fn make_certificates(root: &Path) {
    let dir = root.join("tls");
    let dir = dir.to_string_lossy();
    assert!(run(&["cert", "new-ca", "--dir", &dir]).status.success());
    for id in ["meta", "n1", "n2", "n3"] {
        assert!(run(&["cert", "new-node", "--dir", &dir, "--id", id]).status.success());
    }
}

fn node_config(number: usize, quic: SocketAddr, gossip: &[SocketAddr], meta: SocketAddr) -> String {
    let id = format!("n{number}");
    let seeds: Vec<_> = gossip.iter().map(ToString::to_string).collect();
    format!(
        "version = 1\n[node]\nid = \"{id}\"\nrack = \"r{number}\"\nzone = \"z1\"\n\
         [[disks]]\npath = \"{id}/disk1\"\nreserved = \"16 MiB\"\nsegment = \"16 MiB\"\n\
         [listen]\nquic = \"{quic}\"\ngossip = \"{}\"\n[gossip]\nseeds = {seeds:?}\n{}\
         [metadata]\nkind = \"remote\"\naddress = \"{meta}\"\nserver = \"meta\"\n\
         [policy]\nscheme = \"2+1\"\nsmall_scheme = \"replicated(3)\"\nfailure_domain = \"node\"\nwrite_margin = 0\n\
         [timings]\ngossip_interval = \"100 ms\"\nprobe_timeout = \"500 ms\"\n\
         [limits]\nmemory = \"128 MiB\"\n[s3]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        gossip[number - 1],
        tls(&id),
    )
}

fn disk_states(status: &Value, state: &str) -> usize {
    let nodes = status["nodes"].as_array().unwrap().iter();
    nodes.flat_map(|node| node["disks"].as_array().unwrap()).filter(|disk| disk["state"] == state).count()
}

fn until(node: &Serving, what: &str, holds: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + NOTICED;
    loop {
        let status = node.json("/v1/status");
        if holds(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "not in time: {what}\n{status:#}\n{}", node.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nodes_and_a_metadata_server_make_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    make_certificates(root);

    // The nodes start first: a metadata server that comes later is waited for.
    let (quic, meta) = ((0..NODES).map(|_| free_udp()).collect::<Vec<_>>(), free_udp());
    let gossip: Vec<_> = (0..NODES).map(|_| free_udp()).collect();
    let configs: Vec<_> = (1..=NODES).map(|number| root.join(format!("n{number}.toml"))).collect();
    for (index, config) in configs.iter().enumerate() {
        fs::write(config, node_config(index + 1, quic[index], &gossip, meta)).unwrap();
        let checked = run(&["config", "check", &config.to_string_lossy()]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
    }
    let start = |index: usize| Serving::spawn(root, &format!("n{}", index + 1), serve("node", &configs[index]));
    let mut nodes: Vec<_> = (0..NODES).map(start).collect();
    let meta = metadata_server(root, meta);
    assert_eq!(meta.get("/readyz").0, 200);
    nodes.iter_mut().for_each(Serving::wait);

    for node in &nodes {
        let (status, body) = node.get("/readyz");
        assert_eq!(status, 200, "{body}\n{}", node.log());
    }
    until(&nodes[0], "every node is known", |status| disk_states(status, "up") == NODES);

    drop(nodes.pop());
    until(&nodes[0], "the dead node's disk is down", |status| disk_states(status, "down") == 1);
    let mut back = start(NODES - 1);
    back.wait();
    nodes.push(back);
    until(&nodes[0], "its disk is up again", |status| disk_states(status, "up") == NODES);

    for node in nodes.into_iter().rev() {
        assert_eq!(node.terminate(), Some(0));
    }
    assert_eq!(meta.terminate(), Some(0));
}

#[test]
fn s3_is_served_only_once_writes_hold() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    make_certificates(root);
    let (quic, meta) = ((0..NODES).map(|_| free_udp()).collect::<Vec<_>>(), free_udp());
    let gossip: Vec<_> = (0..NODES).map(|_| free_udp()).collect();
    let (s3, admin) = (free_tcp(), free_tcp());
    let config = |number: usize| {
        let text = node_config(number, quic[number - 1], &gossip, meta);
        let text = match number {
            1 => text
                .replace("[s3]\nlisten = \"127.0.0.1:0\"", &format!("[s3]\nlisten = \"{s3}\""))
                .replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{admin}\"")),
            _ => text,
        };
        let path = root.join(format!("n{number}.toml"));
        fs::write(&path, text).unwrap();
        path
    };
    let _meta = metadata_server(root, meta);
    let start = |number: usize| Serving::spawn(root, &format!("n{number}"), serve("node", &config(number)));

    // Each scheme needs three nodes, and there is one.
    let mut first = start(1);
    let deadline = Instant::now() + NOTICED;
    loop {
        let answer = TcpStream::connect(admin).is_ok().then(|| request(admin, "GET", "/readyz"));
        if let Some((503, body)) = &answer
            && body.contains("needs 3 disks")
        {
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?}\n{}", first.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(TcpStream::connect(s3).map_err(|error| error.kind()).unwrap_err(), ErrorKind::ConnectionRefused);

    let _others = [start(2), start(3)];
    first.wait();
    assert_eq!(request(s3, "GET", "/").0, 403, "unsigned: refused, but by S3");
    while first.get("/readyz").0 != 200 {
        assert!(Instant::now() < deadline, "{:?}\n{}", first.get("/readyz"), first.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn words(arguments: &[&str], node: &Serving) -> (bool, String) {
    let admin = format!("http://{}", node.address("admin"));
    let output = run(&[arguments, &["--admin", &admin]].concat());
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// Lines of a log that warn of a file that is not the cluster's policy.
fn warnings(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains(" WARN ") && line.contains("is not the cluster's policy")).collect()
}

#[test]
fn nodes_obey_one_policy_whatever_their_files_say_and_a_command_changes_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    make_certificates(root);
    let (quic, meta) = ((0..NODES).map(|_| free_udp()).collect::<Vec<_>>(), free_udp());
    let gossip: Vec<_> = (0..NODES).map(|_| free_udp()).collect();
    let config = |number: usize| {
        let text = node_config(number, quic[number - 1], &gossip, meta);
        let path = root.join(format!("n{number}.toml"));
        let otherwise =
            text.replace("scheme = \"2+1\"", "scheme = \"1+1\"").replace("write_margin = 0", "write_margin = 1");
        fs::write(&path, if number == 2 { otherwise } else { text }).unwrap();
        path
    };
    let _meta = metadata_server(root, meta);
    let start = |number: usize| Serving::spawn(root, &format!("n{number}"), serve("node", &config(number)));
    // The first node's file is the cluster's at its birth.
    let mut nodes = vec![start(1)];
    until_told(&mut nodes[0]);
    nodes.extend([start(2), start(3)]);
    nodes.iter_mut().for_each(Serving::wait);

    let (_, said) = words(&["status"], &nodes[1]);
    for part in [
        "scheme    2+1",
        "n2 obeys the cluster's policy.scheme, 2+1, though its configuration says 1+1",
        "policy.write_margin, 0",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!words(&["status"], &nodes[0]).1.contains("though its configuration"), "{said}");
    let log = nodes[1].log();
    let warned = warnings(&log);
    assert!(
        warned.len() == 1
            && warned[0].contains(
                "policy.scheme is 1+1 here and 2+1 in the cluster; policy.write_margin is 1 here and 0 in the cluster"
            )
            && warned[0].contains("`cairn admin policy set`"),
        "{log}"
    );
    assert_eq!((warnings(&nodes[0].log()).len(), warnings(&nodes[2].log()).len()), (0, 0));

    for (wrong, why) in [
        (
            vec!["--scheme", "3+1"],
            "policy.scheme: of the 4 fragments of \"3+1\" no node may hold more than 1, so 3 nodes with 3 disks take only 3",
        ),
        (vec!["--failure-domain", "zone"], "so 1 zone with 3 disks take only 1"),
        (vec!["--write-margin", "2"], "can never be durable with policy.scheme = \"2+1\" (use at most 1)"),
        (vec!["--fragment", "1000B"], "1000 B is not a multiple of 64 KiB"),
        (vec!["--fragment", "16MiB"], "stripes of 48 MiB need 192 MiB for requests"),
    ] {
        let (done, said) = words(&[&["admin", "policy", "set"], &wrong[..]].concat(), &nodes[1]);
        assert!(!done && said.contains("the policy stays as it is") && said.contains(why), "{wrong:?}: {said}");
    }
    let admin = nodes[1].address("admin");
    assert_eq!(request(admin, "POST", "/v1/policy").0, 415, "as a browser's form would");
    assert_eq!(request(admin, "DELETE", "/v1/policy").0, 405);
    let shown = nodes[2].json("/v1/policy");
    assert_eq!(
        (&shown["generation"], &shown["scheme"]),
        (&1.into(), &"2+1".into()),
        "what was refused changed nothing"
    );
    let (_, said) = words(&["admin", "policy"], &nodes[2]);
    assert!(said.contains("policy 1 of the cluster, seen by n3") && said.contains("write_margin    0"), "{said}");

    let set = ["admin", "policy", "set", "--scheme", "1+1", "--write-margin", "1"];
    let (done, said) = words(&set, &nodes[1]);
    assert!(done && said.contains("policy 1 is now policy 2") && said.contains("2+1 -> 1+1"), "{said}");
    let (done, said) = words(&set, &nodes[1]);
    assert!(done && said.contains("nothing to change: policy 2 is so already"), "{said}");
    for node in &nodes {
        until(node, "the new policy", |status| status["policy"]["generation"] == 2 && status["scheme"] == "1+1");
        let deadline = Instant::now() + NOTICED;
        // A write of every scheme is made durable for it.
        while node.get("/readyz").0 != 200 {
            assert!(Instant::now() < deadline, "{:?}", node.get("/readyz"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    until(&nodes[0], "groups of the new scheme", |status| {
        status["groups"].as_array().unwrap().iter().any(|group| group["scheme"] == "1+1")
    });
    assert!(!words(&["status"], &nodes[1]).1.contains("though its configuration"));
    assert!(words(&["status"], &nodes[2]).1.contains("n3 obeys the cluster's policy.scheme, 1+1"));
    assert_eq!(warnings(&nodes[0].log()).len(), 1, "{}", nodes[0].log());

    rates_are_set_by_command(&nodes);

    // It outlives a restart.
    assert_eq!(nodes.pop().unwrap().terminate(), Some(0));
    let mut back = start(3);
    back.wait();
    until(&back, "the same policy", |status| status["policy"]["generation"] == 2 && status["scheme"] == "1+1");
    let rates = back.json("/v1/rates");
    assert_eq!((&rates["generation"], &rates["scrub"]), (&2.into(), &"64 MiB".into()), "{rates}");
}

fn rates_are_set_by_command(nodes: &[Serving]) {
    let rates = |command: &[&str], node: &Serving| words(&[&["admin", "rates"], command].concat(), node);
    let (_, said) = rates(&[], &nodes[0]);
    assert!(said.contains("rates 0 of the cluster, seen by n1\n  scrub               32 MiB (n1's own)"), "{said}");
    for (wrong, why) in [
        (["--scrub", "10 KiB"], "rates.scrub: 10 KiB a second is too little to get on (give at least 1 MiB)"),
        (["--background-percent", "101"], "rates.background_percent: 101 is no part of a disk's time"),
    ] {
        let (done, said) = rates(&[&["set"], &wrong[..]].concat(), &nodes[1]);
        assert!(!done && said.contains("the rates stay as they are") && said.contains(why), "{wrong:?}: {said}");
    }
    let admin = nodes[1].address("admin");
    assert_eq!(request(admin, "POST", "/v1/rates").0, 415, "as a browser's form would");
    assert_eq!(request(admin, "DELETE", "/v1/rates").0, 405);

    let set = ["set", "--scrub", "64MiB", "--repair", "128MiB"];
    let (done, said) = rates(&set, &nodes[1]);
    let changed =
        "rates 0 are now rates 1\n  scrub               32 MiB (n2's own) -> 64 MiB (the cluster's)\n  repair ";
    assert!(done && said.contains(changed), "{said}");
    let (done, said) = rates(&set, &nodes[1]);
    assert!(done && said.contains("nothing to change: rates 1 are so already"), "{said}");
    for node in nodes {
        until(node, "the new rates", |status| {
            status["rates"]["scrub_bytes"] == 64 << 20 && status["rates"]["of_cluster"][1] == "repair"
        });
    }
    let (done, said) = rates(&["set", "--repair", "default"], &nodes[2]);
    assert!(done && said.contains("128 MiB (the cluster's) -> 256 MiB (n3's own)"), "{said}");
    for node in nodes {
        until(node, "one rate less", |status| {
            status["rates"]["generation"] == 2 && status["rates"]["repair_bytes"] == 256 << 20
        });
    }
    assert!(words(&["status"], &nodes[0]).1.contains("scrub set for all nodes (rates 2)"));
}

/// Until the node has its admin API and is in the metadata: it does not serve alone.
fn until_told(node: &mut Serving) {
    let deadline = Instant::now() + NOTICED;
    while !node.log().contains("3. node and disks are registered") {
        assert!(Instant::now() < deadline, "{}", node.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What nodes with the same configuration stand on: certificates, a metadata server, addresses.
struct Ground<'a> {
    root: &'a Path,
    quic: Vec<SocketAddr>,
    gossip: Vec<SocketAddr>,
    meta: SocketAddr,
    _server: Serving,
}

impl<'a> Ground<'a> {
    /// For so many nodes, of which [`Self::nodes`] starts the first few.
    fn new(root: &'a Path, most: usize) -> Self {
        make_certificates(root);
        let dir = root.join("tls");
        for number in NODES + 1..=most {
            let id = format!("n{number}");
            assert!(run(&["cert", "new-node", "--dir", &dir.to_string_lossy(), "--id", &id]).status.success());
        }
        let addresses = || (0..most).map(|_| free_udp()).collect();
        let (quic, gossip, meta) = (addresses(), addresses(), free_udp());
        Self { root, quic, gossip, meta, _server: metadata_server(root, meta) }
    }

    fn start(&self, number: usize) -> Serving {
        let path = self.root.join(format!("n{number}.toml"));
        fs::write(&path, node_config(number, self.quic[number - 1], &self.gossip, self.meta)).unwrap();
        Serving::spawn(self.root, &format!("n{number}"), serve("node", &path))
    }

    fn nodes(&self) -> Vec<Serving> {
        let mut nodes: Vec<_> = (1..=NODES).map(|number| self.start(number)).collect();
        nodes.iter_mut().for_each(Serving::wait);
        nodes
    }
}

fn code(arguments: &[&str], node: &Serving) -> (Option<i32>, String) {
    let admin = format!("http://{}", node.address("admin"));
    let output = run(&[arguments, &["--admin", &admin]].concat());
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// What operators ask before they stop a node and say while they work on it, and what they are told of the data.
#[test]
fn operators_ask_before_they_stop_a_node_and_say_that_they_work_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let ground = Ground::new(root, NODES);
    let mut nodes = ground.nodes();
    until(&nodes[0], "every node is known and all is safe", |status| {
        disk_states(status, "up") == NODES && status["health"]["state"] == "safe"
    });

    let stop = |arguments: &[&str], node: &Serving| code(&[&["admin", "safe-to-stop"], arguments].concat(), node);
    // A disk may be slow to answer, groups may still be formed, and a fragment that came late is made good first.
    let yes = |arguments: &[&str]| {
        let deadline = Instant::now() + NOTICED;
        loop {
            let (told, said) = stop(arguments, &nodes[0]);
            if told == Some(0) {
                return said;
            }
            assert!(Instant::now() < deadline, "{arguments:?}: {told:?} {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let said = yes(&["node", "n3"]);
    assert!(said.starts_with("yes, node n3 may be stopped\n"), "{said}");
    // One of three copies may be taken away, and one fragment of 2+1, whatever it is called.
    for (kind, name) in [("rack", "z1/r3"), ("rack", "r3")] {
        yes(&[kind, name]);
    }
    let (told, said) = stop(&["node", "n2", "n3"], &nodes[0]);
    // Probes of writes left something there, or may at any moment.
    assert!(matches!(told, Some(1 | 2)) && !said.starts_with("yes"), "{told:?} {said}");
    assert!(said.contains("writes of 2+1 would be REFUSED"), "{said}");
    for (arguments, why) in [
        (&["node", "n7"][..], "no node n7 has a disk here"),
        (&["rack", "z9/r1"], "no rack z9/r1 has a disk here"),
        (&["cage", "c1"], "possible values"),
    ] {
        let (told, said) = stop(arguments, &nodes[0]);
        assert!(told == Some(2) && said.contains(why), "{arguments:?}: {told:?} {said}");
    }
    let admin = nodes[0].address("admin");
    assert_eq!(request(admin, "GET", "/v1/safe-to-stop").0, 400);
    assert_eq!(request(admin, "GET", "/v1/safe-to-stop?node=n1&rack=r1").0, 400);
    let (status, body) = request(admin, "GET", "/v1/safe-to-stop?rack=z1%2Fr2");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["format"], &answer["names"][0]), (200, &1.into(), &"z1/r2".into()), "{body}");

    until(&nodes[0], "all to be safe", |status| status["health"]["state"] == "safe");
    let deadline = Instant::now() + NOTICED;
    let (told, said) = loop {
        let (told, said) = code(&["status"], &nodes[0]);
        if told == Some(0) || Instant::now() >= deadline {
            break (told, said);
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(told == Some(0) && said.starts_with("health    safe"), "{told:?} {said}");
    let page = nodes[0].json("/v1/status");
    assert_eq!(page["format"], 1);
    assert!(page["space"]["free_bytes"].as_u64().unwrap() > 0, "{page:#}");

    let maintain = |arguments: &[&str], node: &Serving| code(&[&["admin", "maintenance"], arguments].concat(), node);
    for (arguments, why) in [
        (&["start", "n9"][..], "node \"n9\" does not exist"),
        (&["start", "n2", "--for", "8d"], "691200000 ms is no time for work on n2 (give 1 s to 7 d)"),
    ] {
        let (told, said) = maintain(arguments, &nodes[0]);
        assert!(told == Some(1) && said.contains(why), "{arguments:?}: {told:?} {said}");
    }
    assert_eq!(request(admin, "POST", "/v1/maintenance").0, 415, "as a browser's form would");
    assert_eq!(maintain(&["list"], &nodes[0]), (Some(0), "no node is under maintenance\n".into()));
    let (told, said) = maintain(&["start", "n2", "--for", "10m"], &nodes[0]);
    assert!(told == Some(0) && said.contains("n2 is under maintenance for"), "{said}");
    until(&nodes[2], "others know it", |status| status["maintenance"][0]["node"] == "n2");
    assert!(
        maintain(&["list"], &nodes[2]).1.contains("n2  9 min left of 10 min"),
        "{:?}",
        maintain(&["list"], &nodes[2])
    );
    assert!(code(&["status"], &nodes[2]).1.contains("n2 is under maintenance for 9 min: it is not given up"));
    let (told, said) = stop(&["node", "n3"], &nodes[0]);
    assert!(told != Some(0) && said.contains("counted as stopped: n2"), "{told:?} {said}");
    // It is the one that was stopped.
    yes(&["node", "n2"]);
    // Writes of this cluster need every node with 2+1, and are taken all the same.
    let deadline = Instant::now() + NOTICED;
    while nodes[0].get("/readyz").0 != 200 {
        assert!(Instant::now() < deadline, "{:?}", nodes[0].get("/readyz"));
        std::thread::sleep(Duration::from_millis(20));
    }

    let killed = nodes.remove(1);
    killed.signal(rustix::process::Signal::KILL);
    killed.killed();
    let (told, said) = code(&["status"], &nodes[0]);
    // Nothing is stored that could be at risk by it.
    assert!(said.contains("does not answer n1") || said.contains("is down"), "{told:?} {said}");
    until(&nodes[0], "its disk is down", |status| disk_states(status, "down") == 1);
    let (told, said) = code(&["status"], &nodes[0]);
    assert!(said.contains("is down"), "{told:?} {said}");
    assert_eq!(maintain(&["end", "n2"], &nodes[0]), (Some(0), "n2 is under maintenance no more\n".into()));
    assert_eq!(maintain(&["end", "n2"], &nodes[0]), (Some(0), "n2 was not under maintenance\n".into()));
    until(&nodes[1], "others know that it is over", |status| {
        status["maintenance"].as_array().is_some_and(Vec::is_empty)
    });

    drop(nodes.pop());
    let (told, said) = stop(&["node", "n1"], &nodes[0]);
    assert!(told != Some(0), "{told:?} {said}");
}

fn work_state(status: &Value) -> (&Value, &Value) {
    let job = status["work"]["jobs"].as_array().and_then(|jobs| jobs.last()).unwrap_or(&Value::Null);
    (&job["state"], &job["reason"])
}

/// What cannot be done is refused with the reason, before anything moves; what can is planned, begun, shown and done,
/// and the empty disk taken out.
#[test]
fn a_node_is_drained_and_taken_out_by_command_and_what_would_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let ground = Ground::new(root, NODES + 1);
    let mut nodes = ground.nodes();
    let admin = |command: &[&str], node: &Serving| words(&[&["admin"], command].concat(), node);

    let (_, said) = admin(&["jobs"], &nodes[0]);
    assert_eq!(said, "no jobs\n");
    let (done, said) = admin(&["plan", "drain", "--node", "n9"], &nodes[0]);
    assert!(!done && said.contains("there is no disk of node \"n9\""), "{said}");
    for command in ["plan", "apply"] {
        let (done, said) = admin(&[command, "drain", "--node", "n3"], &nodes[0]);
        let why = "the disks that are left could take no new stripes: policy.scheme: of the 3 fragments of \"2+1\"";
        assert!(!done && said.contains(why) && said.contains("PLC-1"), "{said}");
    }
    until(&nodes[0], "nothing changed", |status| disk_states(status, "up") == NODES);
    let api = nodes[1].address("admin");
    assert_eq!(request(api, "POST", "/v1/jobs").0, 415, "as a browser's form would");
    assert_eq!(request(api, "DELETE", "/v1/jobs").0, 405);

    // With a fourth node it can be done.
    let mut fourth = ground.start(4);
    fourth.wait();
    nodes.push(fourth);
    until(&nodes[0], "the fourth node", |status| disk_states(status, "up") == NODES + 1);
    for node in &nodes[..2] {
        let deadline = Instant::now() + NOTICED;
        let said = loop {
            // It takes a moment until every node has been told how much room there is.
            let (done, said) = admin(&["plan", "drain", "--node", "n3"], node);
            if done {
                break said;
            }
            assert!(Instant::now() < deadline, "{said}");
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(said.contains("empties   1 disk") && said.contains("Nothing stands against it"), "{said}");
    }
    let (done, said) = admin(&["remove", "--node", "n3"], &nodes[0]);
    assert!(!done && said.contains("it is up, not drained; drain it first"), "{said}");
    let (done, said) = admin(&["apply", "drain", "--node", "n3", "--json"], &nodes[1]);
    let begun: Value = serde_json::from_str(&said).unwrap();
    assert!(done && begun["job"]["id"] == 1 && begun["job"]["kind"] == "drain", "{said}");
    let (done, said) = admin(&["apply", "drain", "--rack", "z1/r3"], &nodes[1]);
    assert!(!done && said.contains("is still used by job 1"), "{said}");
    let (done, said) = admin(&["jobs", "pause", "1"], &nodes[2]);
    assert!(done && said.contains("job 1, drain of node \"n3\", begun by n2: paused"), "{said}");
    let (done, said) = admin(&["jobs", "pause", "7"], &nodes[2]);
    assert!(!done && said.contains("job \"7\" does not exist"), "{said}");
    assert!(words(&["status"], &nodes[0]).1.contains("moving    job 1, drain"), "{said}");
    let (done, said) = admin(&["jobs", "resume", "1"], &nodes[0]);
    assert!(done && said.contains("running"), "{said}");
    until(&nodes[0], "the drain to be done", |status| work_state(status).0 == "done");
    let (_, said) = admin(&["jobs"], &nodes[0]);
    assert!(said.contains("of n3 is drained, in 0 positions"), "{said}");
    let (done, said) = admin(&["remove", "--node", "n3"], &nodes[0]);
    assert!(done && said.contains("1 disk taken out for good"), "{said}");
    assert_eq!(nodes.remove(2).terminate(), Some(0));
    until(&nodes[0], "its disk is out", |status| disk_states(status, "removed") == 1);
    for node in &nodes {
        let deadline = Instant::now() + NOTICED;
        while node.get("/readyz").0 != 200 {
            assert!(Instant::now() < deadline, "{:?}", node.get("/readyz"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let (done, said) = admin(&["apply", "rebalance"], &nodes[0]);
    assert!(done && said.contains("job 2, rebalance, begun by n1"), "{said}");
    until(&nodes[0], "the balance", |status| work_state(status).0 == "done");
    let (done, said) = admin(&["jobs", "cancel", "1"], &nodes[0]);
    assert!(done && said.contains("cancelled"), "what is out stays out: {said}");
    until(&nodes[0], "it stays out", |status| disk_states(status, "removed") == 1);
}
