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
