//! The addresses that a process would listen on: of this machine, and free.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use super::look::Notes;
use crate::config::Findings;

/// `in_use` says that the process which is configured runs: then the ports are its own.
pub(super) fn check(
    tcp: &[(&str, SocketAddr)],
    udp: &[(&str, SocketAddr)],
    in_use: bool,
    findings: &mut Findings<'_>,
    notes: &mut Notes,
) {
    if in_use {
        notes.0.push("it runs, so its ports were not tried".to_owned());
        return;
    }
    let tcp = tcp.iter().map(|(field, address)| (*field, *address, TcpListener::bind(address).map(drop)));
    let udp = udp.iter().map(|(field, address)| (*field, *address, UdpSocket::bind(address).map(drop)));
    for (field, address, bound) in tcp.chain(udp) {
        let Err(error) = bound else { continue };
        let (what, fix) = match error.kind() {
            io::ErrorKind::AddrInUse => {
                ("is in use by another process".to_owned(), "choose another port, or end that process")
            }
            io::ErrorKind::AddrNotAvailable => {
                ("is no address of this machine".to_owned(), "name an address of one of its interfaces")
            }
            _ => (format!("cannot be listened on: {error}"), "choose another address"),
        };
        findings.refuse(field, format!("{address} {what}"), fix);
    }
}
