//! Wrong ways with ranges.

use super::{Way, asks, blob, says};
use crate::relay::{Heard, Wrong};

/// Asks without the range.
fn without_range(check: &'static str, words: &'static str) -> Way {
    asks(check, words, |heard| {
        if heard.method == "GET" {
            heard.headers.retain(|(name, _)| name != "range");
        }
    })
}

/// Answers this kind of range with the first bytes, whatever was asked.
fn first_bytes(check: &'static str, words: &'static str, of: fn(&Heard) -> bool) -> Way {
    says(check, words, move |heard, said| {
        if blob(heard) && heard.header("range").is_some() && of(heard) {
            said.status = 206;
            said.body = vec![0; 10];
            said.length = None;
            said.set("content-range", "bytes 0-9/100000");
        }
    })
}

pub(super) fn range() -> Vec<Way> {
    let unit = |heard: &Heard| {
        heard
            .header("range")
            .is_some_and(|range| !range.starts_with("bytes="))
    };
    vec![
        without_range("RNG-01", "not heeded"),
        says("RNG-01", "content-range is", |_, said| {
            if said.status == 206 {
                said.set("content-range", "bytes 0-0/*");
            }
        }),
        without_range("RNG-02", "not heeded"),
        says("RNG-02", "not 206", |heard, said| {
            if heard.header("range").is_some_and(|range| range.len() > 26) {
                said.json(416, "{}");
            }
        }),
        without_range("RNG-03", "not heeded"),
        says("RNG-03", "announces", |_, said| {
            if said.status == 416 {
                said.length = Some(300_000);
            }
        }),
        says("RNG-03", "does not go on", |_, said| {
            if said.status == 416 {
                said.length = Some(0);
            }
        }),
        without_range("RNG-04", "not 416"),
        first_bytes("RNG-05", "items", unit),
        first_bytes("RNG-06", "are not those", |heard| {
            heard
                .header("range")
                .is_some_and(|range| range.contains(','))
        }),
        asks("RNG-07", "If-Range", |heard| {
            heard.headers.retain(|(name, _)| name != "if-range");
        }),
        says("RNG-08", "206", |heard, said| {
            if heard.method == "HEAD" && heard.header("range").is_some() {
                said.status = 206;
            }
        }),
        without_range("RNG-09", "not heeded"),
        Way {
            check: "RNG-10",
            words: "fetched twice",
            wrong: twice(),
        },
        without_range("RNG-11", "not heeded"),
    ]
}

/// Fetches the whole blob for every range and cuts it itself.
fn twice() -> Wrong {
    let range = |heard: &Heard| heard.header("x-range").map(str::to_owned);
    Wrong::asks(|heard| {
        for (name, _) in &mut heard.headers {
            if name == "range" {
                *name = "x-range".to_owned();
            }
        }
    })
    .and_says(move |heard, said| {
        let Some(range) = range(heard) else { return };
        let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let said_range = format!("bytes {first}-{last}/{}", said.body.len());
        said.status = 206;
        said.body = said.body[first..=last].to_vec();
        said.set("content-range", &said_range);
    })
}
