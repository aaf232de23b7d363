//! Which supernode leads which blob: rendezvous hashing, so that all nodes agree without asking and
//! a supernode that leaves moves only its own blobs.

use oci::Digest;

/// How much a place weighs for a blob: the heaviest leads, the next one follows.
pub fn weight(digest: &Digest, place: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(digest.as_bytes());
    hasher.update(place.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_leads_its_share_and_only_that_moves() {
        let places = ["one", "two", "three"];
        let leads = |digest: &Digest, places: &[&'static str]| {
            let heaviest = places.iter().max_by_key(|place| weight(digest, place));
            *heaviest.unwrap()
        };
        let mut counts = [0; 3];
        for number in 0..3000u32 {
            let digest = Digest::sha256(&number.to_be_bytes());
            let lead = leads(&digest, &places);
            counts[places.iter().position(|place| *place == lead).unwrap()] += 1;
            if lead != "two" {
                assert_eq!(leads(&digest, &["one", "three"]), lead);
            }
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }
}
