//! Decides which addresses may be connected to.
//!
//! A domain's owner chooses where its names point, so a name may point into our own network. What is judged is
//! therefore the address about to be connected to, not the name. Never resolves, never connects.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::special::{self, Special};

/// Why an address is not dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDialable {
    /// It lies in a network that is not the public Internet.
    #[error("{address} is in {network}: {purpose} ({source_document})")]
    Special {
        /// The address asked about.
        address: IpAddr,
        /// The special network it is in.
        network: IpNet,
        /// What the network is for.
        purpose: &'static str,
        /// What reserves it.
        source_document: &'static str,
    },
    /// It is one of our own: mail would come back to us.
    #[error("{address} is an address of this system")]
    Own {
        /// The address asked about.
        address: IpAddr,
    },
}

/// The addresses that may be connected to: public ones, and those an operator opened.
#[derive(Debug, Clone, Default)]
pub struct Dialable {
    opened: Vec<IpNet>,
    own: Vec<IpAddr>,
}

impl Dialable {
    /// Public addresses except `own`, and everything in `opened`, which is stronger than any reason against it.
    pub fn new(opened: Vec<IpNet>, own: Vec<IpAddr>) -> Self {
        let own = own
            .into_iter()
            .map(|address| address.to_canonical())
            .collect();
        Self { opened, own }
    }

    /// Whether `address` may be connected to. A v4-mapped IPv6 address is judged as the IPv4 address it reaches.
    pub fn check(&self, address: IpAddr) -> Result<(), NotDialable> {
        let reached = address.to_canonical();
        if self.opened.iter().any(|network| network.contains(&reached)) {
            return Ok(());
        }
        if self.own.contains(&reached) {
            return Err(NotDialable::Own { address });
        }
        match special::find(reached) {
            None => Ok(()),
            Some(Special {
                network,
                purpose,
                source_document,
            }) => Err(NotDialable::Special {
                address,
                network: *network,
                purpose,
                source_document,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::special::SPECIAL;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_and_last_address_of_every_special_network_is_refused() {
        let dialable = Dialable::default();
        for special in SPECIAL {
            for address in [special.network.network(), special.network.broadcast()] {
                assert!(dialable.check(address).is_err(), "{address}");
            }
        }
    }

    #[test]
    fn a_v4_mapped_address_is_judged_as_the_address_it_reaches() {
        let dialable = Dialable::default();
        for special in SPECIAL {
            if let IpAddr::V4(inner) = special.network.network() {
                let mapped = IpAddr::V6(inner.to_ipv6_mapped());
                assert!(dialable.check(mapped).is_err(), "{mapped}");
            }
        }
        assert_eq!(dialable.check(ip("::ffff:8.8.8.8")), Ok(()));
    }

    #[test]
    fn of_ipv6_only_global_unicast_is_dialled() {
        let dialable = Dialable::default();
        for other in [
            "::ffff:0:127.0.0.1",
            "::2:0:0:0",
            "200::1",
            "1fff::1",
            "4000::1",
            "9000::1",
            "fe00::1",
        ] {
            assert!(dialable.check(ip(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn public_addresses_are_dialled_up_to_the_border_of_special_ones() {
        let dialable = Dialable::default();
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2400::1",
            "2606:4700::1111",
            "2a00:1450::1",
            "2c0f::1",
        ] {
            assert_eq!(dialable.check(ip(public)), Ok(()), "{public}");
        }
    }

    #[test]
    fn a_refusal_says_which_network_it_is_and_what_reserves_it() {
        let refusal = Dialable::default()
            .check(ip("169.254.169.254"))
            .unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "169.254.169.254 is in 169.254.0.0/16: link-local (RFC 3927)"
        );
    }

    #[test]
    fn our_own_address_is_refused_in_either_spelling() {
        let dialable = Dialable::new(vec![], vec![ip("::ffff:8.8.4.4"), ip("2a00:1450::2")]);
        for own in ["8.8.4.4", "::ffff:8.8.4.4", "2a00:1450::2"] {
            assert_eq!(
                dialable.check(ip(own)),
                Err(NotDialable::Own { address: ip(own) })
            );
        }
    }

    #[test]
    fn an_opened_network_may_be_dialled_and_nothing_beside_it() {
        let opened = vec!["127.0.0.1/32".parse().unwrap()];
        let dialable = Dialable::new(opened, vec![ip("127.0.0.1")]);
        assert_eq!(dialable.check(ip("127.0.0.1")), Ok(()));
        assert_eq!(dialable.check(ip("::ffff:127.0.0.1")), Ok(()));
        assert!(dialable.check(ip("127.0.0.2")).is_err());
        assert!(dialable.check(ip("::1")).is_err());
    }
}
