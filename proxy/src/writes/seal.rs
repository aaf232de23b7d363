//! Addresses that upstream named for an upload, given to the client so that only they come back.
//!
//! A registry may lead an upload to another host, or to a path of its own that is none of the
//! protocol's. The client gets such an address sealed, as the name of a session here. The seal is a
//! MAC (keyed BLAKE3) with a key that dies with the process, over the place and the address: a
//! client can neither make one nor carry it to another repository, so no client chooses what this
//! node dials.

use std::hash::{BuildHasher as _, RandomState};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;

use crate::place::Place;

const MARK: &str = "darner.";
/// Bytes of the MAC that are kept.
const MAC: usize = 16;
/// Longest address: sealed, it must fit into a request's target beside a name and a digest.
const ADDRESS_MAX: usize = 4096;

/// Seals of one process.
pub(crate) struct Seals {
    key: [u8; 32],
}

impl Seals {
    pub(crate) fn new() -> Self {
        // The standard library's hash keys come from the system's random source.
        let words = [0, 1, 2, 3].map(|n: u8| RandomState::new().hash_one(n).to_le_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(words.as_flattened());
        Self { key }
    }

    /// The session's name for an address; `None` for one that is too long.
    pub(super) fn seal(&self, place: &Place, url: &Uri) -> Option<String> {
        let url = url.to_string();
        if url.len() > ADDRESS_MAX {
            return None;
        }
        let mut sealed = self.mac(place, url.as_bytes()).to_vec();
        sealed.extend_from_slice(url.as_bytes());
        Some(format!("{MARK}{}", URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// The address behind a session's name, if it was sealed here for this place.
    pub(super) fn open(&self, place: &Place, session: &str) -> Option<Uri> {
        let sealed = URL_SAFE_NO_PAD.decode(session.strip_prefix(MARK)?).ok()?;
        let (mac, url) = sealed.split_at_checked(MAC)?;
        // Without an early end, so that its time tells nothing.
        let differs = self.mac(place, url).into_iter().zip(mac);
        let differs = differs.fold(0, |all, (own, given)| all | (own ^ given));
        if differs != 0 {
            return None;
        }
        std::str::from_utf8(url).ok()?.parse().ok()
    }

    fn mac(&self, place: &Place, url: &[u8]) -> [u8; MAC] {
        let text = [place.to_string().as_bytes(), b"\n", url].concat();
        let whole = blake3::keyed_hash(&self.key, &text);
        let mut mac = [0; MAC];
        mac.copy_from_slice(&whole.as_bytes()[..MAC]);
        mac
    }
}

/// Whether a session's name is one that is given here.
pub(super) fn is_sealed(session: &str) -> bool {
    session.starts_with(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(repository: &str) -> Place {
        Place {
            registry: "quay.io".parse().unwrap(),
            repository: repository.parse().unwrap(),
        }
    }

    #[test]
    fn only_what_was_sealed_here_for_this_place_opens() {
        let seals = Seals::new();
        let url = Uri::from_static("https://store.example/up/1?signature=a%2Fb");
        let sealed = seals.seal(&place("a"), &url).unwrap();
        assert!(is_sealed(&sealed));
        assert_eq!(seals.open(&place("a"), &sealed), Some(url.clone()));
        assert_eq!(seals.open(&place("b"), &sealed), None);
        assert_eq!(Seals::new().open(&place("a"), &sealed), None);
        let plain = sealed.strip_prefix(MARK).unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(plain).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            let forged = format!("{MARK}{}", URL_SAFE_NO_PAD.encode(&bytes));
            assert_eq!(seals.open(&place("a"), &forged), None, "byte {at}");
            bytes[at] ^= 1;
        }
        for text in ["darner.", "darner.AAAA", "darner.!", "upload"] {
            assert_eq!(seals.open(&place("a"), text), None, "{text}");
        }
        let long: Uri = format!("http://a/{}", "x".repeat(5000)).parse().unwrap();
        assert_eq!(seals.seal(&place("a"), &long), None);
    }
}
