//! Who is there. Gossip says *suspect*; a direct probe and the opinion of a second peer confirm; a transaction decides.
//!
//! Nothing here trusts gossip with more than a hint: names, addresses and identity come from the metadata and mutual
//! TLS, and who is in doubt is asked, whichever way gossip says. So whoever forges it costs probes: nobody is kept
//! alive by it, kept from coming up, or hidden. A node that may itself be the one cut off must not judge: see
//! [`quorum`].

mod confirm;
mod contacts;
pub mod gossip;
mod judge;
mod losses;
pub mod quorum;
mod returning;
mod worker;

pub use gossip::{Gossip, GossipError, GossipOptions, Peer, View, Views};
pub use judge::{Judge, leave};
pub use worker::{GossipSlot, GossipWorker};
