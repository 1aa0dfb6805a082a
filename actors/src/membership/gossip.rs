//! Gossip: who seems alive, by chitchat over UDP with its phi-accrual failure detector.
//!
//! Each node gossips its id, where its QUIC endpoint is, its rack and zone, and its version. It is neither
//! authenticated nor reliable: a forged message can make a node look alive or dead *here*, which costs probes and
//! decides nothing.

use std::{
    collections::{BTreeMap, HashSet},
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use cairn_schema::ids::{ClusterId, NodeId};
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat,
    transport::UdpTransport,
};

/// Elapsed time over the mean interval at which a node counts as suspect.
const PHI_THRESHOLD: f64 = 8.0;
/// Where gossip is quick the threshold is higher: a busy machine makes a process wait this long, and it is not dead.
const LEAST_SILENCE: Duration = Duration::from_secs(3);
/// A node that stays dead is forgotten by gossip after this; the metadata still knows it.
const FORGET_DEAD: Duration = Duration::from_secs(600);
/// So many lives of each node may be remembered, and of so many nodes that the metadata here do not know yet. More
/// names are forged: anybody may invent some, and each is remembered for as long as a node that is dead.
const LIVES: usize = 16;
const STRANGERS: usize = 256;
/// Between finding a free port and binding it someone else may take it.
const PORT_TRIES: usize = 8;
const MAX_VERSION: usize = 64;

/// How a node takes part in gossip.
#[derive(Clone, Debug)]
pub struct GossipOptions {
    pub node: NodeId,
    pub cluster: ClusterId,
    /// UDP; port 0 picks a free one.
    pub listen: SocketAddr,
    /// host:port of some nodes' gossip.
    pub seeds: Vec<String>,
    pub interval: Duration,
    /// Where the node's QUIC endpoint listens.
    pub quic: SocketAddr,
    pub rack: String,
    pub zone: String,
    /// Of the program.
    pub version: String,
}

/// Why gossip does not work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GossipError {
    #[error("gossip cannot listen on {0}: {1}")]
    Listen(SocketAddr, String),
    #[error("gossip ended: {0}")]
    Ended(String),
    #[error("gossip has heard of {names} nodes, where the cluster has {known}: it begins anew without them")]
    Crowded { names: usize, known: usize },
}

/// What gossip says about one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub alive: bool,
    /// The start of the node's present life, in milliseconds since the Unix epoch by its clock.
    pub generation: u64,
    pub gossip: SocketAddr,
    /// A hint, as are rack and zone.
    pub quic: Option<SocketAddr>,
    pub rack: Option<String>,
    pub zone: Option<String>,
    /// None of one that does not tell, or tells what is no version.
    pub version: Option<String>,
}

/// One picture of the other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub peers: BTreeMap<NodeId, Peer>,
}

impl View {
    pub fn is_alive(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.alive)
    }
}

/// A node's gossip, until it is dropped or shut down.
pub struct Gossip {
    me: ChitchatId,
    handle: ChitchatHandle,
}

impl Gossip {
    pub async fn start(options: GossipOptions) -> Result<Self, GossipError> {
        let mut tries = if options.listen.port() == 0 { PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            let listen = concrete(options.listen)?;
            match Self::start_on(&options, listen).await {
                Err(error) if tries > 0 => tracing::debug!(%error, "gossip port taken meanwhile"),
                result => return result,
            }
        }
    }

    async fn start_on(options: &GossipOptions, listen: SocketAddr) -> Result<Self, GossipError> {
        let me = ChitchatId::new(options.node.as_str(), cairn_schema::clock::now_ms(), listen);
        let config = ChitchatConfig {
            chitchat_id: me.clone(),
            cluster_id: options.cluster.to_string(),
            gossip_interval: options.interval,
            listen_addr: listen,
            seed_nodes: options.seeds.clone(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: phi_threshold(options.interval),
                sampling_window_size: 1000,
                // Longer gaps are deaths, not samples: they would make the next death take as long to notice.
                max_interval: (options.interval * 20).max(LEAST_SILENCE),
                // The prior weighs as much as five samples: far from the truth it would dominate a young node's
                // verdicts.
                initial_interval: options.interval,
                dead_node_grace_period: FORGET_DEAD,
            },
            marked_for_deletion_grace_period: FORGET_DEAD,
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V0,
        };
        let values = vec![
            ("quic".to_owned(), options.quic.to_string()),
            ("rack".to_owned(), options.rack.clone()),
            ("zone".to_owned(), options.zone.clone()),
            ("version".to_owned(), options.version.clone()),
        ];
        let handle = spawn_chitchat(config, values, &UdpTransport)
            .await
            .map_err(|error| GossipError::Listen(listen, format!("{error:#}")))?;
        Ok(Self { me, handle })
    }

    /// Where it really listens.
    pub fn listen(&self) -> SocketAddr {
        self.me.gossip_advertise_addr
    }

    /// As [`Gossip::view`] of so many nodes that are known; an error too when there are too many others (BND-1).
    pub async fn view_of(&self, known: usize, is_known: impl Fn(&NodeId) -> bool) -> Result<View, GossipError> {
        let names = self.handle.chitchat().lock().await.node_states().len();
        if names > known * LIVES + STRANGERS {
            return Err(GossipError::Crowded { names, known });
        }
        self.view(is_known).await
    }

    /// Those of the other nodes that are known as they seem now; an error when gossip has ended.
    pub async fn view(&self, is_known: impl Fn(&NodeId) -> bool) -> Result<View, GossipError> {
        let ended = self.handle.termination_watcher();
        if let Some(end) = futures::FutureExt::now_or_never(ended) {
            let why = end.err().map_or_else(|| "it was shut down".to_owned(), |error| format!("{error:#}"));
            return Err(GossipError::Ended(why));
        }
        let chitchat = self.handle.chitchat();
        let state = chitchat.lock().await;
        Ok(View { peers: peers(lives(&state), is_known) })
    }

    /// Says nothing to the others: they notice by silence.
    pub async fn stop(self) {
        if let Err(error) = self.handle.shutdown().await {
            tracing::debug!(%error, "gossip had ended already");
        }
    }
}

fn phi_threshold(interval: Duration) -> f64 {
    (LEAST_SILENCE.as_secs_f64() / interval.as_secs_f64().max(0.001)).max(PHI_THRESHOLD)
}

/// What gossip has heard of others: of each name, one or more lives.
fn lives(state: &Chitchat) -> impl Iterator<Item = (NodeId, Peer)> {
    let me = state.self_chitchat_id();
    let alive: HashSet<&ChitchatId> = state.live_nodes().collect();
    state.node_states().iter().filter(|(id, _)| id.node_id != me.node_id).filter_map(move |(id, values)| {
        let text = |key: &str| values.get(key).map(str::to_owned);
        let peer = Peer {
            alive: alive.contains(id),
            generation: id.generation_id,
            gossip: id.gossip_advertise_addr,
            quic: values.get("quic").and_then(|text| text.parse().ok()),
            rack: text("rack"),
            zone: text("zone"),
            version: text("version").filter(|version| is_version(version)),
        };
        Some((id.node_id.parse().ok()?, peer))
    })
}

/// Anybody may gossip anything, and this is shown to people.
fn is_version(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    (1..=MAX_VERSION).contains(&text.len()) && text.bytes().all(allowed)
}

/// Of names that are known, and of each the life that lives; if none does, or several seem to, the latest. A restarted
/// node's former life is remembered for a while, and anybody may speak of a later one: neither makes it dead.
fn peers(lives: impl Iterator<Item = (NodeId, Peer)>, is_known: impl Fn(&NodeId) -> bool) -> BTreeMap<NodeId, Peer> {
    let mut peers: BTreeMap<NodeId, Peer> = BTreeMap::new();
    for (node, peer) in lives.filter(|(node, _)| is_known(node)) {
        let rank = |peer: &Peer| (peer.alive, peer.generation);
        if peers.get(&node).is_none_or(|known| rank(known) < rank(&peer)) {
            peers.insert(node, peer);
        }
    }
    peers
}

/// chitchat wants to know its own address before it binds it.
fn concrete(listen: SocketAddr) -> Result<SocketAddr, GossipError> {
    if listen.port() != 0 {
        return Ok(listen);
    }
    let free = UdpSocket::bind(listen).and_then(|socket| socket.local_addr());
    free.map_err(|error| GossipError::Listen(listen, error.to_string()))
}

/// Shared with everyone who wants to know.
pub type Views = tokio::sync::watch::Receiver<Arc<View>>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chitchat::{DeletionStatus, VersionedValue};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn options(node: &str, cluster: ClusterId, seeds: Vec<String>) -> GossipOptions {
        GossipOptions {
            node: node.parse().unwrap(),
            cluster,
            listen: "127.0.0.1:0".parse().unwrap(),
            seeds,
            interval: Duration::from_millis(50),
            quic: "127.0.0.1:7000".parse().unwrap(),
            rack: format!("rack-{node}"),
            zone: "z".to_owned(),
            version: format!("1.0-{node}"),
        }
    }

    #[test]
    fn what_is_no_version_is_not_shown() {
        for version in ["0.1.0", "2.0.0-rc.1+build5"] {
            assert!(is_version(version), "{version}");
        }
        for other in ["", "1.0\n", "\u{1b}[2J", "1 0", &"1".repeat(65)] {
            assert!(!is_version(other), "{other:?}");
        }
    }

    async fn until(gossip: &Gossip, what: &str, mut condition: impl FnMut(&View) -> bool) -> View {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let view = gossip.view(|_| true).await.unwrap();
            if condition(&view) {
                return view;
            }
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}; {view:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Forgers may say as many names as they like, and tell of lives that never were.
    #[test]
    fn forged_names_and_lives_hide_no_real_ones() {
        let peer = |alive, generation| Peer {
            alive,
            generation,
            gossip: "127.0.0.1:1".parse().unwrap(),
            quic: None,
            rack: None,
            zone: None,
            version: None,
        };
        let forged = (0..20_000).map(|number| (format!("0-{number}").parse().unwrap(), peer(true, 1)));
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let real = [(a.clone(), peer(true, 7)), (b.clone(), peer(true, 7))];
        let later = [(a.clone(), peer(false, u64::MAX)), (b.clone(), peer(true, 9))];
        let known = [a.clone(), b.clone()];
        let seen = peers(forged.chain(real).chain(later), |node| known.contains(node));
        assert_eq!(seen, [(a, peer(true, 7)), (b, peer(true, 9))].into());
    }

    /// Names by the hundred, as a forger sends them, who needs to be no node for it.
    #[tokio::test]
    async fn bnd_1_invented_names_are_not_remembered_without_end() {
        let cluster = ClusterId::random();
        let a = Gossip::start(options("a", cluster, vec![])).await.unwrap();
        let forger = Gossip::start(options("forger", cluster, vec![a.listen().to_string()])).await.unwrap();
        let value = |text: &str| VersionedValue { value: text.to_owned(), version: 1, status: DeletionStatus::Set };
        let invent = |number: usize| {
            let id = ChitchatId::new(format!("0-{number}"), 1, forger.listen());
            let values = [("quic".to_owned(), value("127.0.0.1:1"))];
            (id, values)
        };
        let chitchat = forger.handle.chitchat();
        for number in 0..2 * STRANGERS {
            let (id, values) = invent(number);
            chitchat.lock().await.reset_node_state_if_update(&id, values.into_iter(), 1, 0);
        }
        let deadline = tokio::time::Instant::now() + LIMIT;
        let refused = loop {
            match a.view_of(2, |_| false).await {
                Ok(view) => assert_eq!(view, View::default(), "nobody is known"),
                Err(error) => break error,
            }
            assert!(tokio::time::Instant::now() < deadline, "the names never came");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(matches!(refused, GossipError::Crowded { known: 2, .. }), "{refused}");
        for gossip in [a, forger] {
            gossip.stop().await;
        }
    }

    #[tokio::test]
    async fn nodes_find_each_other_and_notice_silence_and_a_new_life() {
        let cluster = ClusterId::random();
        let a = Gossip::start(options("a", cluster, vec![])).await.unwrap();
        let seeds = vec![a.listen().to_string()];
        let b = Gossip::start(options("b", cluster, seeds.clone())).await.unwrap();
        let stranger = Gossip::start(options("s", ClusterId::random(), seeds.clone())).await.unwrap();
        let b_id: NodeId = "b".parse().unwrap();

        let view = until(&a, "a sees b", |view| view.is_alive(&b_id)).await;
        let first_life = view.peers[&b_id].generation;
        let view = until(&a, "b's values", |view| view.peers[&b_id].rack.as_deref() == Some("rack-b")).await;
        assert_eq!(view.peers[&b_id].version.as_deref(), Some("1.0-b"));
        until(&b, "b sees a", |view| view.is_alive(&"a".parse().unwrap())).await;

        b.stop().await;
        until(&a, "a suspects b", |view| !view.is_alive(&b_id)).await;
        let b = Gossip::start(options("b", cluster, seeds)).await.unwrap();
        let view = until(&a, "b is back", |view| view.is_alive(&b_id)).await;
        assert!(view.peers[&b_id].generation > first_life);
        assert_eq!(view.peers.len(), 1, "a node of another cluster is not seen");
        for gossip in [a, b, stranger] {
            gossip.stop().await;
        }
    }
}
