//! From suspicion to certainty: a direct probe, then the opinion of a second peer.

use std::time::{Duration, Instant};

use cairn_fragment::Probes;
use cairn_schema::ids::NodeId;
use rand::seq::SliceRandom;

/// Second peers asked before the question stays open.
const OPINIONS: usize = 2;

/// What asking a suspect came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It answered us or another: gossip was wrong.
    Answers,
    /// It answers neither us nor a peer (or there is no peer to ask).
    Silent,
    /// It does not answer us, and no peer could say whether it answers them.
    Unsure,
}

impl Finding {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Answers => "it answers",
            Self::Silent => "it does not answer",
            Self::Unsure => "it does not answer this node, and no other node could be asked",
        }
    }
}

/// Whether `target` is gone. `peers` are nodes that seem alive, other than `target` and this one; `alone` says that the
/// cluster has no third node which could be asked, so that silence towards us must do.
pub(super) async fn confirm(
    probes: &dyn Probes,
    target: &NodeId,
    peers: &[NodeId],
    alone: bool,
    limit: Duration,
) -> Finding {
    if probes.probe(target, Instant::now() + limit).await.is_ok() {
        return Finding::Answers;
    }
    let mut peers: Vec<&NodeId> = peers.iter().collect();
    peers.shuffle(&mut rand::rng());
    for peer in peers.into_iter().take(OPINIONS) {
        // The peer needs its own time to probe.
        match probes.probe_through(peer, target, Instant::now() + limit * 2).await {
            Ok(true) => return Finding::Answers,
            Ok(false) => return Finding::Silent,
            Err(error) => tracing::debug!(%peer, %target, %error, "a second opinion could not be had"),
        }
    }
    if alone { Finding::Silent } else { Finding::Unsure }
}
