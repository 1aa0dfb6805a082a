//! A gateway over a real store: one node with six disks in a temporary folder, metadata in memory.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cairn_actors::{
    background::Deliver,
    disk::{DiskOptions, IndexMemory},
    runtime::{Identity, NodeMemory, NodeOptions, NodeRuntime, Policy, Rates, Timings},
    tls,
};
use cairn_gateway::{AccessDesk, Gateway, GatewayOptions, SecretsKey};
use cairn_schema::{
    Meta,
    clock::now_ms,
    ids::NodeId,
    kv::{self, SharedKv},
    record::{ErasureCode, FailureDomain, Scheme, User},
    verbs::UserChange,
};

use crate::{
    request::Request,
    sign::Signer,
    wire::{Answer, DEADLINE},
};

pub(crate) const ACCESS_KEY: &str = "cairntest";
pub(crate) const SECRET_KEY: &str = "cairntestsecret";

/// Of the node: a stripe with its parity takes 1.5 MiB.
const MEMORY_BYTES: u64 = 256 << 20;

pub(crate) struct World {
    pub gateway: Gateway,
    pub node: NodeRuntime,
    pub meta: Meta,
    /// How far the metadata's clock is ahead.
    ahead_ms: Arc<AtomicU64>,
    pub desk: AccessDesk,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut GatewayOptions)) -> Self {
        Self::start_over(Arc::new(kv::mem::kv()), change).await
    }

    /// With its metadata in a store.
    pub(crate) async fn start_over(store: SharedKv, change: impl FnOnce(&mut GatewayOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ahead_ms = Arc::new(AtomicU64::new(0));
        let ahead = ahead_ms.clone();
        let clock = move || now_ms() + ahead.load(Ordering::Relaxed);
        let meta = Meta::new(store).with_clock(clock);
        let mut options = GatewayOptions::new("127.0.0.1:0".parse().unwrap(), ACCESS_KEY, SECRET_KEY);
        let secrets = SecretsKey::parse(&SecretsKey::generate().unwrap()).unwrap();
        options.secrets = Some(secrets.clone());
        change(&mut options);
        let mut of_node = node_options(&folder, meta.clone()).await;
        of_node.deliver = options.targets.clone().map(|targets| Arc::new(targets) as Arc<dyn Deliver>);
        let node = NodeRuntime::start(of_node).await.unwrap();
        let desk = AccessDesk::new(meta.clone(), Some(secrets));
        let gateway = Gateway::start(node.store(), options).await.unwrap();
        Self { gateway, node, meta, ahead_ms, desk, folder }
    }

    /// The same with a bucket.
    pub(crate) async fn with_bucket(bucket: &str) -> Self {
        let world = Self::start().await;
        world.ok(Request::put(&format!("/{bucket}"))).await;
        world
    }

    /// Time passes for what is decided in the metadata.
    pub(crate) fn pass_days(&self, days: u64) {
        self.ahead_ms.fetch_add(days * 86_400_000, Ordering::Relaxed);
    }

    /// Where its disks are.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.gateway.local_addr()
    }

    pub(crate) fn signer(&self) -> Signer {
        Signer::now(ACCESS_KEY, SECRET_KEY)
    }

    pub(crate) async fn send(&self, request: Request) -> Answer {
        request.send(self.address(), &self.signer()).await
    }

    /// A new user who may do what a policy says.
    pub(crate) async fn user(&self, name: &str, policy: Option<&str>) -> Signer {
        self.meta.create_user(User::new(name, 1)).await.unwrap();
        if let Some(policy) = policy {
            self.allow(name, policy).await;
        }
        self.key_of(name, None, None).await
    }

    /// Gives a user a policy in the place of that of before.
    pub(crate) async fn allow(&self, name: &str, policy: &str) {
        let policy = AccessDesk::attachable("own", Some(policy.to_owned())).unwrap_or_else(|error| panic!("{error}"));
        self.meta.change_user(name, UserChange::Attach(policy)).await.unwrap();
    }

    /// Another key of a user.
    pub(crate) async fn key_of(&self, name: &str, expires_ms: Option<u64>, session: Option<&str>) -> Signer {
        let made = self.desk.create_key(name, expires_ms, session.map(ToOwned::to_owned), None).await.unwrap();
        Signer::now(&made.access_key, &made.secret_key)
    }

    /// Sends what must succeed.
    pub(crate) async fn ok(&self, request: Request) -> Answer {
        let what = request.to_string();
        let answer = self.send(request).await;
        assert!((200..300).contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
        answer
    }

    /// Sends what must be refused, and with this.
    pub(crate) async fn refused(&self, request: Request, status: u16, code: &str) -> Answer {
        let what = request.to_string();
        let answer = self.send(request).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
        assert!(answer.header("x-amz-request-id").is_some(), "{what}");
        answer
    }

    /// Keys of a bucket, by listing.
    pub(crate) async fn keys(&self, bucket: &str) -> Vec<String> {
        self.ok(Request::get(&format!("/{bucket}")).query("list-type", "2")).await.xml_all("Key")
    }

    pub(crate) async fn stop(self) {
        self.gateway.stop(DEADLINE).await;
        self.node.stop(DEADLINE).await;
    }
}

async fn node_options(folder: &tempfile::TempDir, meta: Meta) -> NodeOptions {
    let id: NodeId = "n1".parse().unwrap();
    let ca = tls::new_ca("test").unwrap();
    let made = tls::new_node(&ca, &id, &[]).unwrap();
    let policy = Policy {
        fragment_bytes: 256 << 10,
        ..Policy::new(
            Scheme::Rs { data: 4, parity: 2, code: ErasureCode::Gf256 },
            Scheme::Replicated { copies: 3 },
            FailureDomain::Disk,
        )
    };
    let cluster = meta.cluster(policy).await.unwrap().id;
    let disk = |number: u8| DiskOptions {
        path: folder.path().join(format!("disk{number}")),
        cluster,
        segment_bytes: 64 << 20,
        reserved_bytes: 1 << 20,
        capacity_bytes: Some(2 << 30),
        max_queued_bytes: 64 << 20,
        max_queued_reads: 256,
        index: IndexMemory::default(),
    };
    NodeOptions {
        rack: "r1".into(),
        zone: "z1".into(),
        disks: (1..=6).map(disk).collect(),
        listen: "127.0.0.1:0".parse().unwrap(),
        gossip_listen: "127.0.0.1:0".parse().unwrap(),
        gossip_seeds: Vec::new(),
        identity: Identity { ca_pem: ca.cert_pem, cert_pem: made.cert_pem, key_pem: made.key_pem },
        policy,
        rates: Rates::default(),
        timings: Timings { gossip_interval: Duration::from_millis(250), ..Timings::default() },
        memory: NodeMemory { stripes: MEMORY_BYTES, served: 64 << 20, background: 64 << 20 },
        client_memory_percent: 75,
        metrics: prometheus::Registry::new(),
        deliver: None,
        id,
        meta,
    }
}
