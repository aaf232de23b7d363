//! The settings by name. One list serves the flags (`--cache-size`), the variables
//! (`DARNER_CACHE_SIZE`) and the keys of the file (`cache-size`), so that they cannot differ.

use std::fmt;

/// Which command a configuration is for: the defaults and the settings that mean something differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Node and supernode in one process.
    Up,
    /// The node alone.
    Proxy,
    /// The supernode alone.
    Supernode,
}

impl Role {
    /// The command's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Proxy => "proxy",
            Self::Supernode => "supernode",
        }
    }
}

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// Where clients ask.
    Listen,
    /// Where the node shows its state.
    Admin,
    /// Where the supernode shows its state.
    Control,
    /// The name others reach this machine by.
    Advertise,
    /// Where bytes and the catalog are kept.
    DataDir,
    /// A registry's endpoints.
    Registry,
    /// Most bytes kept.
    CacheSize,
    /// Least free disk.
    MinFree,
    /// Most bytes per second downloaded.
    Ratelimit,
    /// How long a tag's answer is believed.
    TagTtl,
    /// How long a right to read is believed.
    GrantTtl,
    /// How long a "not found" is believed.
    NegativeTtl,
    /// How long an unreachable registry's public repositories stay public.
    PublicMemory,
    /// How long an old tag is served while upstream cannot answer.
    StaleTag,
    /// Whether the well-known public registries are served.
    PublicRegistries,
    /// Whether the ping asks for credentials.
    ChallengePing,
    /// Whether pushes are refused.
    ReadOnly,
    /// How long requests may go on after a stop.
    Drain,
    /// What is logged.
    Log,
    /// The address that others of the swarm reach.
    Swarm,
    /// Who leads this node.
    Supernode,
    /// Where peers ask.
    PeerListen,
    /// The zone this machine stands in.
    Zone,
    /// The rack this machine stands in.
    Rack,
    /// Most bytes per second given to peers.
    UploadLimit,
}

impl Key {
    /// All of them, in the order they are printed.
    pub(crate) const ALL: [Self; 25] = [
        Self::Listen,
        Self::Admin,
        Self::Control,
        Self::Advertise,
        Self::Swarm,
        Self::Supernode,
        Self::PeerListen,
        Self::Zone,
        Self::Rack,
        Self::UploadLimit,
        Self::DataDir,
        Self::CacheSize,
        Self::MinFree,
        Self::Ratelimit,
        Self::TagTtl,
        Self::GrantTtl,
        Self::NegativeTtl,
        Self::PublicMemory,
        Self::StaleTag,
        Self::PublicRegistries,
        Self::ChallengePing,
        Self::ReadOnly,
        Self::Drain,
        Self::Log,
        Self::Registry,
    ];

    /// The key of the file and, behind `--`, the flag.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Admin => "admin",
            Self::Control => "control",
            Self::Advertise => "advertise",
            Self::DataDir => "data-dir",
            Self::Registry => "registry",
            Self::CacheSize => "cache-size",
            Self::MinFree => "min-free",
            Self::Ratelimit => "ratelimit",
            Self::TagTtl => "tag-ttl",
            Self::GrantTtl => "grant-ttl",
            Self::NegativeTtl => "negative-ttl",
            Self::PublicMemory => "public-memory",
            Self::StaleTag => "stale-tag",
            Self::PublicRegistries => "public-registries",
            Self::ChallengePing => "challenge-ping",
            Self::ReadOnly => "read-only",
            Self::Drain => "drain",
            Self::Log => "log",
            Self::Swarm => "swarm",
            Self::Supernode => "supernode",
            Self::PeerListen => "peer-listen",
            Self::Zone => "zone",
            Self::Rack => "rack",
            Self::UploadLimit => "upload-limit",
        }
    }

    /// The environment variable.
    pub(crate) fn variable(self) -> String {
        format!("DARNER_{}", self.name().to_uppercase().replace('-', "_"))
    }

    /// The setting of this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// Whether the command uses it.
    pub(crate) fn serves(self, role: Role) -> bool {
        match self {
            Self::Admin
            | Self::ReadOnly
            | Self::Supernode
            | Self::PeerListen
            | Self::Zone
            | Self::Rack
            | Self::UploadLimit => role != Role::Supernode,
            Self::Control => role == Role::Supernode,
            Self::Swarm => role == Role::Up,
            _ => true,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The candidate that a mistyped word most likely meant; `None` if none is near.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    const NEAR: f64 = 0.75;
    let word = word.to_lowercase().replace('_', "-");
    candidates
        .map(|candidate| {
            (
                strsim::jaro_winkler(&word, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_settings() {
        for key in Key::ALL {
            assert_eq!(Key::of(key.name()), Some(key));
        }
        assert_eq!(Key::CacheSize.variable(), "DARNER_CACHE_SIZE");
    }

    #[test]
    fn a_slip_finds_the_right_name() {
        let names = || Key::ALL.iter().map(|key| key.name());
        assert_eq!(nearest("cache_size", names()), Some("cache-size"));
        assert_eq!(nearest("rate-limit", names()), Some("ratelimit"));
        assert_eq!(nearest("regsitry", names()), Some("registry"));
        assert_eq!(nearest("xyzzy", names()), None);
    }
}
