//! The PROXY protocol, versions 1 and 2: what a balancer says of its client before the client's first byte.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// A line of version 1, its end included.
const LINE_MAX_BYTES: usize = 107;
/// Of version 2, addresses and what else is told there. Balancers tell some hundred bytes (BND-1).
const MORE_MAX_BYTES: usize = 4096;

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("what it begins with is no header of the PROXY protocol")]
    Malformed,
}

/// Reads the header and not a byte more. None: the balancer speaks for itself, or does not know for whom.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyError> {
    // No header of either version is shorter.
    let mut head = [0; SIGNATURE.len()];
    stream.read_exact(&mut head).await?;
    if head == *SIGNATURE { read_binary(stream).await } else { read_line(stream, head).await }
}

async fn read_line(
    stream: &mut (impl AsyncRead + Unpin),
    head: [u8; SIGNATURE.len()],
) -> Result<Option<SocketAddr>, ProxyError> {
    if !head.starts_with(b"PROXY ") {
        return Err(ProxyError::Malformed);
    }
    let mut line = head.to_vec();
    while line.len() < LINE_MAX_BYTES {
        line.push(stream.read_u8().await?);
        if let Some(line) = line.strip_suffix(b"\r\n") {
            return of_line(line).ok_or(ProxyError::Malformed);
        }
    }
    Err(ProxyError::Malformed)
}

/// None for what is no line of version 1, without its end.
fn of_line(line: &[u8]) -> Option<Option<SocketAddr>> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?;
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = text.split(' ');
    let family = words.next()?;
    let address = |word: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let port = |word: &str| -> Option<u16> {
        let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
        word.parse().ok().filter(|_| plain)
    };
    let (client, _) = (address(words.next()?)?, address(words.next()?)?);
    let (client_port, _) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some(Some(SocketAddr::new(client, client_port)))
}

async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyError> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [version_and_command, family, length @ ..] = fixed;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MORE_MAX_BYTES {
        return Err(ProxyError::Malformed);
    }
    let mut more = vec![0; length];
    stream.read_exact(&mut more).await?;
    match version_and_command {
        // Its own, such as whether we are well.
        0x20 => Ok(None),
        0x21 => of_addresses(family, &more).ok_or(ProxyError::Malformed),
        _ => Err(ProxyError::Malformed),
    }
}

/// None for addresses that are none. What follows them is passed over.
fn of_addresses(family: u8, more: &[u8]) -> Option<Option<SocketAddr>> {
    match family {
        0x00 => Some(None),
        0x11 => {
            let (client, rest) = more.split_first_chunk::<4>()?;
            let (_, rest) = rest.split_first_chunk::<4>()?;
            let (port, rest) = rest.split_first_chunk::<2>()?;
            rest.split_first_chunk::<2>()?;
            Some(Some(SocketAddr::new(Ipv4Addr::from(*client).into(), u16::from_be_bytes(*port))))
        }
        0x21 => {
            let (client, rest) = more.split_first_chunk::<16>()?;
            let (_, rest) = rest.split_first_chunk::<16>()?;
            let (port, rest) = rest.split_first_chunk::<2>()?;
            rest.split_first_chunk::<2>()?;
            Some(Some(SocketAddr::new(Ipv6Addr::from(*client).into(), u16::from_be_bytes(*port))))
        }
        // Datagrams and sockets of files have no place before us.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// What is read of these bytes, and how many it leaves. Never waits.
    fn read_of(bytes: &[u8]) -> (Result<Option<SocketAddr>, ProxyError>, usize) {
        let mut rest = bytes;
        let outcome = read(&mut rest).now_or_never().expect("bytes do not wait");
        (outcome, rest.len())
    }

    fn version_2(version_and_command: u8, family: u8, more: &[u8]) -> Vec<u8> {
        let length = u16::try_from(more.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_and_command, family], &length, more].concat()
    }

    #[test]
    fn headers_of_both_versions_are_read_to_their_last_byte() {
        let v4 = [[10, 1, 2, 3].as_slice(), &[10, 0, 0, 1], &[0xd4, 0x31], &[0, 80], b"and so on"].concat();
        let v6 = [[0xfd; 16].as_slice(), &[0; 16], &[0, 7], &[0, 80]].concat();
        let cases: [(Vec<u8>, Option<&str>); 8] = [
            (b"PROXY TCP4 10.1.2.3 10.0.0.1 54321 80\r\n".to_vec(), Some("10.1.2.3:54321")),
            (b"PROXY TCP6 fd00::1 fd00::2 1 65535\r\n".to_vec(), Some("[fd00::1]:1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever stands there\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &v4), Some("10.1.2.3:54321")),
            (version_2(0x21, 0x21, &v6), Some("[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:7")),
            (version_2(0x20, 0x00, b""), None),
            (version_2(0x21, 0x00, b"tlv"), None),
        ];
        for (header, client) in cases {
            let (outcome, rest) = read_of(&[&header[..], b"GET /"].concat());
            assert_eq!(outcome.unwrap(), client.map(|client| client.parse().unwrap()), "{header:?}");
            assert_eq!(rest, 5, "{header:?}");
            for end in 0..header.len() {
                assert!(matches!(read_of(&header[..end]).0, Err(ProxyError::Io(_))), "{header:?} up to {end}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for wrong in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
            "PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n",
            "PROXY TCP4 ::1 ::1 1 1\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
            "PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY UNKNOWNS\r\n",
        ] {
            assert!(matches!(read_of(wrong.as_bytes()).0, Err(ProxyError::Malformed)), "{wrong}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        let (outcome, rest) = read_of(long.as_bytes());
        assert!(matches!(outcome, Err(ProxyError::Malformed)));
        assert_eq!(long.len() - rest, LINE_MAX_BYTES, "no more is read than a line may have");
        let long = version_2(0x21, 0x11, &[0; MORE_MAX_BYTES + 1]);
        for wrong in [
            long,
            version_2(0x11, 0x11, &[0; 12]),
            version_2(0x22, 0x11, &[0; 12]),
            version_2(0x21, 0x11, &[0; 11]),
            version_2(0x21, 0x21, &[0; 35]),
            version_2(0x21, 0x12, &[0; 12]),
            version_2(0x21, 0x31, &[0; 216]),
        ] {
            assert!(matches!(read_of(&wrong).0, Err(ProxyError::Malformed)), "{:?}", &wrong[12..16]);
        }
    }

    proptest! {
        #[test]
        fn bnd_1_any_bytes_are_read_or_refused_and_no_more_than_a_header(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", &SIGNATURE[..]]),
        ) {
            let bytes = [start, &bytes].concat();
            let (_, rest) = read_of(&bytes);
            prop_assert!(bytes.len() - rest <= SIGNATURE.len() + 4 + MORE_MAX_BYTES);
        }

        #[test]
        fn every_address_is_read_as_it_is_written(address in any::<[u8; 16]>(), four in any::<bool>(), port in any::<u16>()) {
            let client = match four {
                true => SocketAddr::new(Ipv4Addr::new(address[0], address[1], address[2], address[3]).into(), port),
                false => SocketAddr::new(Ipv6Addr::from(address).into(), port),
            };
            let family = if four { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {0} {0} {port} 1\r\n", client.ip());
            prop_assert_eq!(read_of(line.as_bytes()).0.unwrap(), Some(client));
        }
    }
}
