//! quinn's settings, and why they are not its defaults.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{
    ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, Runtime, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
    congestion::CubicConfig,
    crypto::{
        CryptoError, HmacKey,
        rustls::{QuicClientConfig, QuicServerConfig},
    },
    udp::UdpSocketState,
};
use sha2::{Digest, Sha256};

use super::{QuicError, socket::Socket};
use crate::tls::Identity;

/// Bounds of one endpoint. Bytes and durations are per peer unless they say otherwise.
#[derive(Clone, Debug)]
pub struct QuicOptions {
    /// Requests of one peer handled at once; further streams wait at the peer.
    pub max_requests: u32,
    /// Payload bytes of one peer's requests and replies held at once.
    pub max_bytes: u32,
    /// The same of all peers whose requests are answered here together.
    pub max_served_bytes: u32,
    /// Connections of one peer; a restarted one leaves dead ones behind until they time out.
    pub max_connections: usize,
    /// Handshakes of strangers under way at once, of all together.
    pub max_handshakes: usize,
    /// No request is handled for longer, whatever its caller asks.
    pub max_deadline: Duration,
    /// For a handshake, and for a request's header to arrive.
    pub setup_timeout: Duration,
    /// A connection on which nothing arrives for so long is dead.
    pub idle_timeout: Duration,
    /// Well under `idle_timeout`, so that a quiet connection stays.
    pub keep_alive: Duration,
    /// The pause after a failed dial, doubled after each further one up to `max_backoff`.
    pub backoff: Duration,
    pub max_backoff: Duration,
    /// What quinn may hold for one connection in each direction.
    pub connection_window_bytes: u32,
    pub stream_window_bytes: u32,
    /// The largest UDP payload tried. Loopback and jumbo frames take it; others fall back by probing. Near 8000 and
    /// above a batch of segments no longer fits the kernel's 64 KiB and throughput collapses.
    pub max_datagram_bytes: u16,
    /// Asked of the kernel for each socket; it may give less.
    pub socket_buffer_bytes: usize,
    pub metrics: Option<prometheus::Registry>,
}

impl Default for QuicOptions {
    fn default() -> Self {
        Self {
            max_requests: 256,
            max_bytes: 64 << 20,
            max_served_bytes: 256 << 20,
            max_connections: 16,
            max_handshakes: 128,
            max_deadline: Duration::from_secs(60),
            setup_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(2),
            backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(2),
            connection_window_bytes: 8 << 20,
            stream_window_bytes: 4 << 20,
            max_datagram_bytes: 4000,
            socket_buffer_bytes: 4 << 20,
            metrics: None,
        }
    }
}

fn config_error(error: impl ToString) -> QuicError {
    QuicError::Config(error.to_string())
}

pub(super) fn server_endpoint(
    listen: SocketAddr,
    tls: rustls::ServerConfig,
    identity: &Identity,
    options: &QuicOptions,
) -> Result<quinn::Endpoint, QuicError> {
    let crypto = QuicServerConfig::try_from(tls).map_err(config_error)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::new(transport(options)?));
    // Peers have fixed addresses; a connection that moves is not one of ours.
    server.migration(false);
    // What strangers can make us buffer before their first packet is looked at.
    server.max_incoming(options.max_handshakes * 2);
    server.incoming_buffer_size(64 * 1024).incoming_buffer_size_total(4 << 20);
    // The same key after a restart, so that peers learn at once from the new process that the old one's connections are
    // gone.
    let key = ResetKey(Sha256::digest(identity.key_pem.as_bytes()).into());
    endpoint(EndpointConfig::new(Arc::new(key)), Some(server), listen, options)
}

pub(super) fn client_endpoint(
    listen: SocketAddr,
    tls: rustls::ClientConfig,
    options: &QuicOptions,
) -> Result<(quinn::Endpoint, ClientConfig), QuicError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(config_error)?;
    let mut client = ClientConfig::new(Arc::new(crypto));
    let mut transport = transport(options)?;
    // Only the dialling side: one of both suffices.
    transport.keep_alive_interval(Some(options.keep_alive));
    // Requests are the dialler's; a peer that opens streams of its own is refused by the protocol.
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    client.transport_config(Arc::new(transport));
    // From the address we listen on, so that a firewall and an operator see one address per node.
    let from = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
        ip => ip,
    };
    Ok((endpoint(EndpointConfig::default(), None, SocketAddr::new(from, 0), options)?, client))
}

fn endpoint(
    mut config: EndpointConfig,
    server: Option<ServerConfig>,
    listen: SocketAddr,
    options: &QuicOptions,
) -> Result<quinn::Endpoint, QuicError> {
    config.max_udp_payload_size(options.max_datagram_bytes).map_err(config_error)?;
    let failed = |error: std::io::Error| QuicError::Listen(listen, error.to_string());
    let socket = UdpSocket::bind(listen).map_err(failed)?;
    size_buffers(&socket, options.socket_buffer_bytes);
    let runtime = Arc::new(TokioRuntime);
    let socket = Socket::new(runtime.wrap_udp_socket(socket).map_err(failed)?, options.max_datagram_bytes);
    quinn::Endpoint::new_with_abstract_socket(config, server, Arc::new(socket), runtime).map_err(failed)
}

/// Bursts of bulk data overflow the default buffers. Getting less than asked is slower, not wrong.
fn size_buffers(socket: &UdpSocket, bytes: usize) {
    let sized = UdpSocketState::new(socket.into()).and_then(|state| {
        state.set_send_buffer_size(socket.into(), bytes)?;
        state.set_recv_buffer_size(socket.into(), bytes)
    });
    if let Err(error) = sized {
        tracing::debug!(%error, bytes, "the kernel did not size the socket's buffers");
    }
}

fn transport(options: &QuicOptions) -> Result<TransportConfig, QuicError> {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(options.max_datagram_bytes);
    // Nodes sit close together: a larger first window saves round trips on the first fragments.
    let mut congestion = CubicConfig::default();
    congestion.initial_window(256 * 1024);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(options.max_requests))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(options.stream_window_bytes))
        .receive_window(VarInt::from_u32(options.connection_window_bytes))
        .send_window(options.connection_window_bytes.into())
        .max_idle_timeout(Some(IdleTimeout::try_from(options.idle_timeout).map_err(config_error)?))
        .initial_rtt(Duration::from_millis(20))
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(congestion));
    Ok(transport)
}

/// Signs stateless resets: HMAC-SHA-256 (RFC 2104) under a key derived from the node's own.
struct ResetKey([u8; 32]);

impl ResetKey {
    fn hmac(&self, data: &[u8]) -> [u8; 32] {
        let pad = |with: u8| {
            let mut block = [with; 64];
            block.iter_mut().zip(self.0).for_each(|(byte, key)| *byte ^= key);
            block
        };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(data).finalize();
        Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let signature = self.hmac(data);
        let len = signature.len().min(signature_out.len());
        signature_out[..len].copy_from_slice(&signature[..len]);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // Without an early exit, so that the time taken tells nothing.
        let expected = self.hmac(data);
        let differs = expected.iter().zip(signature).fold(0, |all, (a, b)| all | (a ^ b));
        if differs == 0 && signature.len() == expected.len() { Ok(()) } else { Err(CryptoError) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// RFC 4231, test case 2, with its key padded with zeros as the RFC does.
    #[test]
    fn reset_tokens_are_hmac_sha_256() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let key = ResetKey(key);
        let data = b"what do ya want for nothing?";
        let mut signature = [0; 32];
        key.sign(data, &mut signature);
        assert_eq!(hex::encode(signature), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert!(key.verify(data, &signature).is_ok());
        signature[31] ^= 1;
        assert!(key.verify(data, &signature).is_err());
        assert!(key.verify(data, &[]).is_err());
    }
}
