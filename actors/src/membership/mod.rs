//! Who is there. Gossip says *suspect*; a direct probe and the opinion of a second peer confirm; a transaction decides.
//!
//! Nothing here trusts gossip with more than a hint: addresses and identity come from the metadata and mutual TLS. A
//! node that may itself be the one cut off must not judge: see [`quorum`].

mod confirm;
pub mod gossip;
mod judge;
mod losses;
pub mod quorum;
mod worker;

pub use gossip::{Gossip, GossipError, GossipOptions, Peer, View, Views};
pub use judge::{Judge, leave};
pub use worker::{GossipSlot, GossipWorker};
