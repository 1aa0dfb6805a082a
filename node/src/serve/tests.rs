#![allow(clippy::unwrap_used)]
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cairn_actors::{
    disk::DiskOptions,
    runtime::{Policy, Rates, Timings},
};
use cairn_schema::{
    Meta,
    kv::{
        inject::{Fault, Injecting},
        mem,
    },
    record::{DiskState, FailureDomain},
};
use tokio::sync::watch;

use super::*;
use crate::{
    certs,
    config::{Sharers, Size},
};

const LIMIT: Duration = Duration::from_secs(120);
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn plan(root: &Path, meta: &Meta) -> Plan {
    let id: NodeId = "n1".parse().unwrap();
    let policy = Policy::new("1+1".parse().unwrap(), "replicated(2)".parse().unwrap(), FailureDomain::Disk);
    let cluster = meta.cluster(policy).await.unwrap().id;
    let sharers = Sharers { nodes: 1, disks: 2, embedded: false, fragment: 1 << 20, stripe: 2 << 20 };
    let shares = Shares::divide(Size::mib(128), &sharers).unwrap();
    let index = shares.index(2);
    let disk = |number| DiskOptions {
        path: root.join(format!("disk{number}")),
        cluster,
        segment_bytes: 16 << 20,
        reserved_bytes: 1 << 20,
        capacity_bytes: Some(1 << 30),
        max_queued_bytes: MAX_QUEUED_BYTES,
        max_queued_reads: MAX_QUEUED_READS,
        index: index.clone(),
    };
    let metrics = prometheus::Registry::new();
    let node = NodeOptions {
        identity: certs::dev_identity(&root.join("tls"), &id).unwrap(),
        id,
        rack: "r1".into(),
        zone: "z1".into(),
        meta: meta.clone(),
        disks: (1..=2).map(disk).collect(),
        listen: ANY,
        gossip_listen: ANY,
        gossip_seeds: Vec::new(),
        policy,
        rates: Rates::default(),
        timings: Timings { gossip_interval: Duration::from_millis(100), ..Timings::default() },
        memory: shares.node(1),
        client_memory_percent: 75,
        metrics: metrics.clone(),
        deliver: None,
    };
    Plan {
        nodes: vec![node],
        gateway: GatewayOptions::new(ANY, "root", "rootsecret"),
        audit: None,
        certificates: Vec::new(),
        admin: ANY,
        prefix_bytes: 0,
        memory: (shares, index),
        metrics,
        max_fds: None,
    }
}

/// The actor that watches over membership panics whenever it calls a disk up. Once its restarts are used up the process
/// is not ready any more and ends, as one whose metadata store has failed does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_essential_actor_that_gave_up_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(mem::kv());
    let broken = Arc::new(AtomicBool::new(false));
    let decides = broken.clone();
    let decide = move || {
        assert!(!decides.load(Ordering::SeqCst), "told to panic");
        Fault::None
    };
    let meta = Meta::new(Arc::new(Injecting::new(store.clone(), decide)));
    let (_stop, stopping) = watch::channel(false);
    let (serving, _) = Serving::start(plan(folder.path(), &meta).await, &stopping).await.unwrap();
    let admin = serving.admin.as_ref().unwrap();
    admin.able().await.unwrap();

    broken.store(true, Ordering::SeqCst);
    let disk = meta.disks().await.unwrap()[0].id;
    Meta::new(store).set_disk_state(disk, DiskState::Up, DiskState::Down).await.unwrap();
    let failure = tokio::time::timeout(LIMIT, serving.failed()).await.unwrap();
    let words = failure.to_string();
    assert_eq!(failure.exit_code(), 3, "{words}");
    assert!(words.contains("node n1") && words.contains("membership") && words.contains("told to panic"), "{words}");
    let unready = async {
        // What a probe found is kept for a second.
        while admin.able().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        admin.able().await.unwrap_err()
    };
    let reason = tokio::time::timeout(LIMIT, unready).await.unwrap();
    assert!(reason.contains("membership"), "{reason}");

    broken.store(false, Ordering::SeqCst);
    serving.stop().await;
}

/// What operators order is in the audit log when the process has stopped, whether it was done or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_of_operators_are_told_to_the_audit_log() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let audit = AuditLog::open(&path, false, &prometheus::Registry::new()).unwrap();
    let plan = Plan { audit: Some(audit), ..plan(folder.path(), &Meta::in_memory()).await };
    let (_stop, stopping) = watch::channel(false);
    let (serving, ready) = Serving::start(plan, &stopping).await.unwrap();
    for (order, status) in [(r#"{"do":"buckets"}"#, "200"), ("nonsense", "400")] {
        let mut stream = tokio::net::TcpStream::connect(ready.admin).await.unwrap();
        let head = "POST /v1/buckets HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";
        let request = format!("{head}Content-Length: {}\r\n\r\n{order}", order.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    serving.stop().await;
    let text = std::fs::read_to_string(&path).unwrap();
    let told: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 2, "{text}");
    for (line, (order, done)) in
        told.iter().zip([(serde_json::json!({"do": "buckets"}), true), ("nonsense".into(), false)])
    {
        assert_eq!((&line["kind"], &line["page"], &line["order"]), (&"order".into(), &"/v1/buckets".into(), &order));
        assert_eq!((line["done"].as_bool(), line["refused"].is_null()), (Some(done), done), "{line}");
        assert_eq!(line["source"].as_str(), Some("127.0.0.1"));
    }
}
