//! Networks of addresses, as configurations write them: `10.0.0.0/8`, `fd00::/8`, or one address.

use std::{fmt, net::IpAddr, str::FromStr};

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want an address, or one with the number of bits that count, such as 10.0.0.0/8; the others must be 0")]
pub struct NetworkError;

impl Network {
    /// An IPv4 address that came over a socket of IPv6 is what it is.
    pub fn has(&self, address: IpAddr) -> bool {
        let bits_of = |address| first_bits(address, self.bits);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(_), other @ IpAddr::V4(_)) | (IpAddr::V6(_), other @ IpAddr::V6(_)) => {
                bits_of(other) == bits_of(self.address)
            }
            _ => false,
        }
    }
}

fn length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn first_bits(address: IpAddr, bits: u8) -> u128 {
    let all = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    all.checked_shr(u32::from(length(address) - bits)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let bits = match bits {
            None => length(address),
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(|_| NetworkError)?,
            Some(_) => return Err(NetworkError),
        };
        // Of addresses of IPv4 that are written as IPv6 none would ever be asked for.
        if bits > length(address) || address.to_canonical() != address {
            return Err(NetworkError);
        }
        let host_bits = u32::from(length(address) - bits);
        let begins = first_bits(address, bits).checked_shl(host_bits).unwrap_or(0);
        if begins != first_bits(address, length(address)) {
            return Err(NetworkError);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_with_its_bits() {
        let has = |network: &str, address: &str| network.parse::<Network>().unwrap().has(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.255.0.1") && !has("10.0.0.0/8", "11.0.0.1"));
        assert!(has("10.0.0.0/8", "::ffff:10.1.2.3") && !has("10.0.0.0/8", "fd00::1"));
        assert!(has("127.0.0.2", "127.0.0.2") && !has("127.0.0.2", "127.0.0.3"));
        assert!(has("0.0.0.0/0", "1.2.3.4") && !has("0.0.0.0/0", "::1") && has("::/0", "::1"));
        assert!(has("fd00::/8", "fd12::1") && !has("fd00::/8", "fe80::1"));
        for wrong in
            ["", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/+8", "::ffff:10.0.0.0/104", "x", "10/8"]
        {
            assert_eq!(wrong.parse::<Network>(), Err(NetworkError), "{wrong}");
        }
    }
}
