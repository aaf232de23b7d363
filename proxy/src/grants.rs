//! Who may read what is held: grants, and the decision.
//!
//! Bytes are shared by digest, the right to read them is not (OWASP: key the grant, not the bytes).
//! Held bytes are served when they belong to the place *and* the reader may read the place: by a
//! live grant, by upstream's word given now with the reader's own credential, or, while upstream
//! cannot be reached, because the place was public a short while ago. It fails closed: a refusal
//! is never overruled by anything older.
//!
//! The decision is pure; asking upstream and remembering are the callers' part.

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::place::Place;
use crate::upstream::CredentialKey;

/// Grants remembered at most; one more costs an old one, which costs a question to upstream.
const GRANTS_MAX: usize = 65_536;

/// What is known of one reader and one digest in one place.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The digest belongs to the place.
    pub belongs: bool,
    /// The reader's grant, or that of everybody, ends then.
    pub granted_until: Option<Instant>,
    /// The place was last served anonymously so long ago.
    pub public_age: Option<Duration>,
    /// What upstream says now.
    pub upstream: Said,
}

/// What upstream says now with the reader's credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It was not asked yet.
    Nothing,
    /// It would serve this digest here.
    Yes,
    /// 401, 403 or 404.
    No,
    /// It cannot be reached, fails, or limits us.
    Away,
}

/// What to do with held bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve them.
    Serve,
    /// Ask upstream, then decide again.
    Ask,
    /// Do not.
    Deny,
}

/// Decides about held bytes. `public_memory` bounds how old a public place's fame may be.
pub fn decide(now: Instant, facts: &Facts, public_memory: Duration) -> Decision {
    let granted = facts.granted_until.is_some_and(|until| now < until);
    let public = facts.public_age.is_some_and(|age| age < public_memory);
    match facts.upstream {
        Said::No => Decision::Deny,
        Said::Yes => Decision::Serve,
        Said::Nothing if facts.belongs && granted => Decision::Serve,
        Said::Nothing => Decision::Ask,
        Said::Away if facts.belongs && (granted || public) => Decision::Serve,
        Said::Away => Decision::Deny,
    }
}

/// Live grants of places to credentials; [`CredentialKey::ANONYMOUS`] means everybody.
pub struct Grants {
    until: Cache<(Place, CredentialKey), Instant>,
    life: Duration,
}

impl Grants {
    /// Grants that live so long.
    pub fn new(life: Duration) -> Self {
        Self {
            until: Cache::new(GRANTS_MAX),
            life,
        }
    }

    /// Upstream has just served `place` to `credential`.
    pub fn renew(&self, place: &Place, credential: CredentialKey, now: Instant) {
        self.until
            .insert((place.clone(), credential), now + self.life);
    }

    /// Upstream has just refused `place` to `credential`.
    pub fn revoke(&self, place: &Place, credential: CredentialKey) {
        self.until.remove(&(place.clone(), credential));
    }

    /// When the best grant for this credential ends: its own or everybody's.
    pub fn until(&self, place: &Place, credential: CredentialKey) -> Option<Instant> {
        let own = self.until.get(&(place.clone(), credential));
        let all = self.until.get(&(place.clone(), CredentialKey::ANONYMOUS));
        own.max(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn facts(belongs: bool, grant: Option<Instant>, public: Option<u64>, upstream: Said) -> Facts {
        Facts {
            belongs,
            granted_until: grant,
            public_age: public.map(Duration::from_secs),
            upstream,
        }
    }

    #[test]
    fn every_case() {
        let now = Instant::now();
        let (live, dead) = (Some(now + Duration::from_secs(1)), Some(now));
        let table = [
            (facts(true, live, None, Said::Nothing), Decision::Serve),
            (facts(false, live, None, Said::Nothing), Decision::Ask),
            (facts(true, dead, None, Said::Nothing), Decision::Ask),
            (facts(true, None, Some(1), Said::Nothing), Decision::Ask),
            (facts(false, None, None, Said::Yes), Decision::Serve),
            (facts(true, live, Some(1), Said::No), Decision::Deny),
            (facts(true, live, None, Said::Away), Decision::Serve),
            (facts(true, dead, None, Said::Away), Decision::Deny),
            (facts(true, None, Some(1), Said::Away), Decision::Serve),
            (facts(false, live, Some(1), Said::Away), Decision::Deny),
            (facts(true, None, Some(86_400), Said::Away), Decision::Deny),
        ];
        for (facts, decision) in table {
            assert_eq!(decide(now, &facts, DAY), decision, "{facts:?}");
        }
    }
}
