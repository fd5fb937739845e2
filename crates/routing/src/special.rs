//! The networks that are not the public Internet.
//!
//! The IANA special-purpose address registries (RFC 6890) with the multicast, reserved and deprecated ranges that
//! stand elsewhere. Data: a row is a network, what it is for and the document that reserves it. Ranges inside
//! another row's (192.0.0.0/29, 2001:20::/28) are left to that row, the globally reachable ones among them too: no
//! mail server lives there. v4-mapped addresses have no row: they are judged as the IPv4 address inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A network that mail is never sent into.
#[derive(Debug)]
pub(crate) struct Special {
    pub(crate) network: IpNet,
    pub(crate) purpose: &'static str,
    pub(crate) source_document: &'static str,
}

/// The row that `address` falls under.
pub(crate) fn find(address: IpAddr) -> Option<&'static Special> {
    SPECIAL
        .iter()
        .find(|special| special.network.contains(&address))
}

const fn v4(
    [a, b, c, d]: [u8; 4],
    length: u8,
    purpose: &'static str,
    source_document: &'static str,
) -> Special {
    Special {
        network: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)),
        purpose,
        source_document,
    }
}

const fn v6(
    [a, b, c, d]: [u16; 4],
    length: u8,
    purpose: &'static str,
    source_document: &'static str,
) -> Special {
    Special {
        network: IpNet::V6(Ipv6Net::new_assert(
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0),
            length,
        )),
        purpose,
        source_document,
    }
}

/// `::last` as a single address.
const fn one(last: u16, purpose: &'static str, source_document: &'static str) -> Special {
    let address = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, last);
    Special {
        network: IpNet::V6(Ipv6Net::new_assert(address, 128)),
        purpose,
        source_document,
    }
}

/// Every row.
#[rustfmt::skip]
pub(crate) const SPECIAL: &[Special] = &[
    v4([0, 0, 0, 0], 8, "this network", "RFC 791 section 3.2"),
    v4([10, 0, 0, 0], 8, "private use", "RFC 1918"),
    v4([100, 64, 0, 0], 10, "shared address space", "RFC 6598"),
    v4([127, 0, 0, 0], 8, "loopback", "RFC 1122 section 3.2.1.3"),
    v4([169, 254, 0, 0], 16, "link-local", "RFC 3927"),
    v4([172, 16, 0, 0], 12, "private use", "RFC 1918"),
    v4([192, 0, 0, 0], 24, "IETF protocol assignments", "RFC 6890 section 2.1"),
    v4([192, 0, 2, 0], 24, "documentation (TEST-NET-1)", "RFC 5737"),
    v4([192, 31, 196, 0], 24, "AS112", "RFC 7535"),
    v4([192, 52, 193, 0], 24, "AMT", "RFC 7450"),
    v4([192, 88, 99, 0], 24, "deprecated 6to4 relay anycast", "RFC 7526"),
    v4([192, 168, 0, 0], 16, "private use", "RFC 1918"),
    v4([192, 175, 48, 0], 24, "AS112", "RFC 7534"),
    v4([198, 18, 0, 0], 15, "benchmarking", "RFC 2544"),
    v4([198, 51, 100, 0], 24, "documentation (TEST-NET-2)", "RFC 5737"),
    v4([203, 0, 113, 0], 24, "documentation (TEST-NET-3)", "RFC 5737"),
    v4([224, 0, 0, 0], 4, "multicast", "RFC 5771"),
    v4([240, 0, 0, 0], 4, "reserved, and limited broadcast", "RFC 1112 section 4, RFC 919"),
    one(0, "unspecified", "RFC 4291 section 2.5.2"),
    one(1, "loopback", "RFC 4291 section 2.5.3"),
    v6([0, 0, 0, 0], 96, "deprecated IPv4-compatible", "RFC 4291 section 2.5.5.1"),
    v6([0x64, 0xff9b, 0, 0], 96, "IPv4-IPv6 translation", "RFC 6052"),
    v6([0x64, 0xff9b, 1, 0], 48, "local-use translation", "RFC 8215"),
    v6([0x100, 0, 0, 0], 64, "discard-only", "RFC 6666"),
    v6([0x100, 0, 0, 1], 64, "dummy prefix", "RFC 9780"),
    v6([0x2001, 0, 0, 0], 23, "IETF protocol assignments, Teredo among them", "RFC 2928, RFC 4380"),
    v6([0x2001, 0xdb8, 0, 0], 32, "documentation", "RFC 3849"),
    v6([0x2002, 0, 0, 0], 16, "6to4", "RFC 3056"),
    v6([0x2620, 0x4f, 0x8000, 0], 48, "AS112", "RFC 7534"),
    v6([0x3fff, 0, 0, 0], 20, "documentation", "RFC 9637"),
    v6([0x5f00, 0, 0, 0], 16, "segment routing SIDs", "RFC 9602"),
    v6([0xfc00, 0, 0, 0], 7, "unique local", "RFC 4193"),
    v6([0xfe80, 0, 0, 0], 10, "link-local", "RFC 4291 section 2.5.6"),
    v6([0xfec0, 0, 0, 0], 10, "deprecated site-local", "RFC 3879"),
    v6([0xff00, 0, 0, 0], 8, "multicast", "RFC 4291 section 2.7"),
    // All that is not global unicast, 2000::/3. IPv4-translated addresses (::ffff:0:127.0.0.1, RFC 2765) are in there.
    v6([0, 0, 0, 0], 3, "not global unicast", "RFC 4291 section 2.4"),
    v6([0x4000, 0, 0, 0], 2, "not global unicast", "RFC 4291 section 2.4"),
    v6([0x8000, 0, 0, 0], 1, "not global unicast", "RFC 4291 section 2.4"),
];
