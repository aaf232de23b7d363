//! Which image of an index is for a machine: `os/architecture[/variant]`.
//!
//! image-spec v1.1.1 "Image Index": names are Go's `GOOS` and `GOARCH`. An index names attestations
//! as images of the platform `unknown/unknown`, which no machine is.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::digest::Digest;

/// A kind of machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v7` of `arm`; empty if none is said. `arm64` without one is `v8`.
    pub variant: String,
}

/// Not of the form `os/architecture[/variant]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a platform is `os/architecture` or `os/architecture/variant`: linux/amd64, linux/arm/v7")]
pub struct PlatformError;

impl Platform {
    /// The machine that this program runs on.
    pub fn of_this_machine() -> Self {
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            os => os,
        };
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", ""),
            "x86" => ("386", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self::new(os, architecture, variant)
    }

    fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = os.to_ascii_lowercase();
        let architecture = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        let variant = match (architecture.as_str(), variant) {
            ("arm64", "v8") => "",
            (_, variant) => variant,
        };
        Self {
            os,
            architecture,
            variant: variant.to_ascii_lowercase(),
        }
    }

    /// How well an image for `other` serves this machine, smaller is better; `None`: it does not.
    fn distance(&self, other: &Self) -> Option<u8> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        if self.variant == other.variant {
            return Some(0);
        }
        let number = |variant: &str| variant.strip_prefix('v')?.parse::<u8>().ok();
        match (number(&self.variant), number(&other.variant)) {
            // A processor runs what was made for an older variant of it.
            (Some(own), Some(older)) => own.checked_sub(older),
            // Nothing is said on one side.
            _ if self.variant.is_empty() || other.variant.is_empty() => Some(u8::MAX),
            _ => None,
        }
    }
}

/// The images of an index that say for which platform they are, in the index's order; what cannot be
/// read is left out.
pub fn platforms(index: &[u8]) -> Vec<(Digest, Platform)> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(default)]
        manifests: Vec<serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Entry {
        digest: Digest,
        platform: Said,
    }
    #[derive(Deserialize)]
    struct Said {
        os: String,
        architecture: String,
        #[serde(default)]
        variant: String,
    }
    let index: Option<Index> = serde_json::from_slice(index).ok();
    let entries = index.map(|index| index.manifests).unwrap_or_default();
    let read = |entry: serde_json::Value| {
        let Entry { digest, platform } = serde_json::from_value(entry).ok()?;
        let Said {
            os,
            architecture,
            variant,
        } = platform;
        Some((digest, Platform::new(&os, &architecture, &variant)))
    };
    entries.into_iter().filter_map(read).collect()
}

/// The image of an index that serves `wanted` best; `None` if none does.
pub fn choose(index: &[u8], wanted: &Platform) -> Option<(Digest, Platform)> {
    let fits = |(digest, platform): (Digest, Platform)| {
        Some((wanted.distance(&platform)?, digest, platform))
    };
    let best = platforms(index)
        .into_iter()
        .filter_map(fits)
        .min_by_key(|(distance, ..)| *distance)?;
    Some((best.1, best.2))
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |part: &&str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            !part.is_empty() && part.bytes().all(plain)
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(word) {
            return Err(PlatformError);
        }
        match parts.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(PlatformError),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.variant)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn index(platforms: &[&str]) -> Vec<u8> {
        let entry = |text: &&str| {
            let parts: Vec<&str> = text.split('/').collect();
            let digest = Digest::sha256(text.as_bytes()).to_string();
            json!({"digest": digest, "size": 1, "platform": {
                "os": parts[0], "architecture": parts[1], "variant": parts.get(2).unwrap_or(&""),
            }})
        };
        let entries: Vec<Value> = platforms.iter().map(entry).collect();
        serde_json::to_vec(&json!({ "manifests": entries })).unwrap()
    }

    fn chosen(index: &[u8], wanted: &str) -> Option<Digest> {
        Some(choose(index, &wanted.parse().unwrap())?.0)
    }

    #[test]
    fn the_nearest_variant_is_chosen() {
        let all = [
            "unknown/unknown",
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm64/v8",
            "linux/amd64",
            "windows/amd64",
        ];
        let index = index(&all);
        let digest = |text: &str| Some(Digest::sha256(text.as_bytes()));
        assert_eq!(chosen(&index, "linux/amd64"), digest("linux/amd64"));
        assert_eq!(chosen(&index, "linux/x86_64"), digest("linux/amd64"));
        assert_eq!(chosen(&index, "linux/arm64"), digest("linux/arm64/v8"));
        assert_eq!(chosen(&index, "linux/arm/v7"), digest("linux/arm/v6"));
        assert_eq!(chosen(&index, "linux/arm/v5"), digest("linux/arm/v5"));
        assert_eq!(chosen(&index, "linux/arm"), digest("linux/arm/v5"));
        assert_eq!(chosen(&index, "linux/arm/v4"), None);
        assert_eq!(chosen(&index, "linux/s390x"), None);
        assert_eq!(platforms(&index).len(), all.len());
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let odd = json!({"manifests": [
            {"digest": "sha256:x", "platform": {"os": "linux", "architecture": "amd64"}},
            {"digest": Digest::sha256(b""), "platform": null},
            {"digest": Digest::sha256(b"")}, 7,
        ]});
        assert_eq!(platforms(&serde_json::to_vec(&odd).unwrap()), []);
        assert_eq!(platforms(b"<html>"), []);
    }

    #[test]
    fn printing_is_the_inverse_of_parsing() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        assert_eq!(
            "linux/arm64/v8".parse::<Platform>().unwrap().to_string(),
            "linux/arm64"
        );
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "a b/c"] {
            assert_eq!(text.parse::<Platform>(), Err(PlatformError), "{text}");
        }
        let own = Platform::of_this_machine();
        assert_eq!(own.to_string().parse(), Ok(own));
    }
}
