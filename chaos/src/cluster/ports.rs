//! Ports for processes of this machine.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{Mutex, PoisonError},
};

use crate::error::ChaosError;

/// Ports below those that systems give to whoever asks for any: none of the connections that the nodes open can take
/// one of them between the moment it was found free and that at which its node listens.
const PORTS: std::ops::Range<u16> = 12_000..30_000;
const PORT_TRIES: usize = 1000;

/// A port that was free a moment ago. Restarted nodes must come back at the same place, so they can't pick one
/// themselves.
pub fn free_tcp() -> Result<String, ChaosError> {
    free("find a free TCP port", |address| TcpListener::bind(address).and_then(|socket| socket.local_addr()))
}

pub(super) fn free_udp() -> Result<String, ChaosError> {
    free("find a free UDP port", |address| UdpSocket::bind(address).and_then(|socket| socket.local_addr()))
}

/// Ports given out by this process: until their owner listens they look free, and the dice would come to one of them
/// again.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

fn free(what: &str, bind: impl Fn(SocketAddr) -> std::io::Result<SocketAddr>) -> Result<String, ChaosError> {
    let any = || {
        let port = rand::random_range(PORTS);
        if !GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        bind(SocketAddr::from(([127, 0, 0, 1], port)))
    };
    let mut tries = (1..PORT_TRIES).map(|_| any());
    let free = tries.find(Result::is_ok).unwrap_or_else(any);
    free.map(|address| address.to_string()).map_err(ChaosError::io(what))
}
