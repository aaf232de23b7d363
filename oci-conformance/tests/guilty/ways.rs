//! Ways in which registries and mirrors are wrong, most of them seen in the wild.

mod discovery;
mod errors;
mod pull;
mod range;

use std::collections::HashMap;
use std::sync::Mutex;

use crate::relay::{Heard, Said, Wrong};

/// One way, the check that must see it, and words of what it says then.
pub(crate) struct Way {
    pub(crate) check: &'static str,
    pub(crate) words: &'static str,
    pub(crate) wrong: Wrong,
}

fn says(
    check: &'static str,
    words: &'static str,
    says: impl Fn(&Heard, &mut Said) + Send + Sync + 'static,
) -> Way {
    let wrong = Wrong::says(says);
    Way {
        check,
        words,
        wrong,
    }
}

fn asks(
    check: &'static str,
    words: &'static str,
    asks: impl Fn(&mut Heard) + Send + Sync + 'static,
) -> Way {
    let wrong = Wrong::asks(asks);
    Way {
        check,
        words,
        wrong,
    }
}

pub(crate) fn all() -> Vec<Way> {
    let ways = [
        pull::manifests(),
        pull::blobs(),
        pull::odd_content(),
        pull::negotiation(),
        range::range(),
        errors::words(),
        errors::statuses(),
        discovery::tag_lists(),
        discovery::referrer_lists(),
    ];
    ways.into_iter().flatten().collect()
}

fn manifest(heard: &Heard) -> bool {
    heard.path().contains("/manifests/")
}

fn blob(heard: &Heard) -> bool {
    heard.path().contains("/blobs/")
}

/// Gives the first answer to the same target for ever, whoever asks.
fn remembering() -> Wrong {
    let known: Mutex<HashMap<String, Said>> = Mutex::default();
    Wrong::says(move |heard, said| {
        let mut known = known.lock().unwrap();
        let key = format!("{} {}", heard.method, heard.target);
        *said = known.entry(key).or_insert_with(|| said.clone()).clone();
    })
}
