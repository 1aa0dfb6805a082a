//! For whom memory is taken.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

/// Of an IPv6 address: one client usually has all the addresses below it.
const NETWORK_BITS: u32 = 64;

/// Who asks for something: an address and an access key, each of which has a share of the memory. The default is the
/// node itself, which has no share to keep to. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requester {
    address: Option<IpAddr>,
    access_key: Option<Arc<str>>,
}

/// One of those who have a share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Party {
    Address(IpAddr),
    AccessKey(Arc<str>),
}

impl Requester {
    /// Of an IPv6 address its network counts, of an IPv4 address in IPv6 the IPv4 address.
    pub fn new(address: Option<IpAddr>, access_key: Option<Arc<str>>) -> Self {
        Self { address: address.map(counted), access_key }
    }

    pub(super) fn parties(&self) -> impl Iterator<Item = Party> {
        let address = self.address.map(Party::Address);
        address.into_iter().chain(self.access_key.clone().map(Party::AccessKey))
    }
}

fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> (128 - NETWORK_BITS) << (128 - NETWORK_BITS)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| Requester::new(Some(text.parse().unwrap()), None);
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
