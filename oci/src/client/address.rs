//! Which addresses may be dialled.
//!
//! A name that a registry, a redirect or a realm gives us must not lead into the operator's network:
//! what is not publicly routable is refused unless the operator wrote that very `host:port`.
//! Decided on the resolved address, which is then the one that is dialled (no second resolution).
//! Pure: resolution and dialling live in `dial`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is, from the least to the most forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Globally routable.
    Public,
    /// Loopback, RFC 1918, shared (RFC 6598) and unique local addresses.
    Private,
    /// Link-local and the clouds' metadata services.
    LinkLocal,
    /// Unspecified, multicast, reserved: never a registry.
    Never,
}

/// How the operator named the host that is to be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// Not at all: it comes from a registry's answer or from the built-in table.
    No,
    /// By this host name and port.
    ByName,
    /// By this very address and port.
    ByAddress,
}

impl Named {
    /// Whether an address may be dialled for a host named so. A name that resolves to the metadata
    /// service is refused even then: nobody means that, and DNS is not the operator's word.
    pub(super) fn allows(self, address: IpAddr) -> Result<(), Class> {
        let class = classify(address);
        let highest = match self {
            Self::No => Class::Public,
            Self::ByName => Class::Private,
            Self::ByAddress => Class::LinkLocal,
        };
        if class <= highest { Ok(()) } else { Err(class) }
    }
}

impl Class {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "loopback or private",
            Self::LinkLocal => "link-local or metadata",
            Self::Never => "unspecified, multicast or reserved",
        }
    }
}

/// The class of an address (IANA special-purpose registries, RFC 6890 and later).
pub(super) fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [127, ..] | [10, ..] | [192, 168, ..] => Class::Private,
        [172, second, ..] if second & 0xf0 == 16 => Class::Private,
        // Alibaba's metadata service sits inside the shared range.
        [100, 100, 100, 200] => Class::LinkLocal,
        [100, second, ..] if second & 0xc0 == 64 => Class::Private,
        // Azure's platform address is outside of every special range.
        [169, 254, ..] | [168, 63, 129, 16] => Class::LinkLocal,
        [0, ..] | [192, 0, 0, _] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Class::Never
        }
        [198, 18 | 19, ..] => Class::Private,
        [224..=255, ..] => Class::Never,
        _ => Class::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    let segments = address.segments();
    if address == Ipv6Addr::LOCALHOST {
        return Class::Private;
    }
    match segments {
        // IPv4-mapped, IPv4-compatible (`::` among them), NAT64 and 6to4 carry an IPv4 address.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            classify_v4(embedded(high, low))
        }
        [0x2002, high, low, ..] => classify_v4(embedded(high, low)),
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Class::LinkLocal,
        [first, ..] if first & 0xfe00 == 0xfc00 => Class::Private,
        [first, ..] if first & 0xffc0 == 0xfe80 => Class::LinkLocal,
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => Class::Never,
        [first, ..] if first & 0xe000 == 0x2000 => Class::Public,
        _ => Class::Never,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let table = [
            ("1.1.1.1", Class::Public),
            ("100.63.0.1", Class::Public),
            ("172.32.0.1", Class::Public),
            ("2606:4700::1111", Class::Public),
            ("2002:101:101::", Class::Public),
            ("::ffff:1.1.1.1", Class::Public),
            ("127.0.0.1", Class::Private),
            ("127.9.9.9", Class::Private),
            ("10.0.0.1", Class::Private),
            ("172.16.0.1", Class::Private),
            ("172.31.255.255", Class::Private),
            ("192.168.1.1", Class::Private),
            ("100.64.0.1", Class::Private),
            ("198.19.0.1", Class::Private),
            ("::1", Class::Private),
            ("fd12::1", Class::Private),
            ("::ffff:127.0.0.1", Class::Private),
            ("64:ff9b::10.0.0.1", Class::Private),
            ("2002:7f00:1::", Class::Private),
            ("169.254.169.254", Class::LinkLocal),
            ("::ffff:169.254.169.254", Class::LinkLocal),
            ("100.100.100.200", Class::LinkLocal),
            ("168.63.129.16", Class::LinkLocal),
            ("fe80::1", Class::LinkLocal),
            ("fd00:ec2::254", Class::LinkLocal),
            ("0.0.0.0", Class::Never),
            ("::", Class::Never),
            ("224.0.0.1", Class::Never),
            ("255.255.255.255", Class::Never),
            ("192.0.2.1", Class::Never),
            ("ff02::1", Class::Never),
            ("2001::1", Class::Never),
            ("2001:db8::1", Class::Never),
            ("64:ff9b:1::1", Class::Never),
            ("fec0::1", Class::Never),
        ];
        for (address, class) in table {
            assert_eq!(classify(address.parse().unwrap()), class, "{address}");
        }
    }

    #[test]
    fn the_operator_s_word_reaches_as_far_as_it_says() {
        let allowed = |named: Named, address: &str| named.allows(address.parse().unwrap()).is_ok();
        assert!(allowed(Named::No, "1.1.1.1"));
        assert!(!allowed(Named::No, "127.0.0.1"));
        assert!(allowed(Named::ByName, "10.0.0.1"));
        assert!(!allowed(Named::ByName, "169.254.169.254"));
        assert!(allowed(Named::ByAddress, "169.254.169.254"));
        assert!(!allowed(Named::ByAddress, "0.0.0.0"));
    }
}
