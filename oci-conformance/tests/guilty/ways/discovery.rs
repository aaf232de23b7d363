//! Wrong ways with lists.

use super::{Way, asks, remembering, says};
use crate::relay::{Heard, Wrong};

fn tag_list(heard: &Heard) -> bool {
    heard.path().ends_with("/tags/list")
}

fn referrers(heard: &Heard) -> bool {
    heard.path().contains("/referrers/")
}

/// Changes the JSON of a 200.
fn json(
    check: &'static str,
    words: &'static str,
    change: impl Fn(&Heard, &mut serde_json::Value) + Send + Sync + 'static,
) -> Way {
    says(check, words, move |heard, said| {
        let json = serde_json::from_slice(&said.body);
        if let (200, Ok(mut json)) = (said.status, json) {
            change(heard, &mut json);
            said.body = json.to_string().into_bytes();
        }
    })
}

pub(super) fn tag_lists() -> Vec<Way> {
    vec![
        json("DSC-01", "name is `library/x`", |_, json| {
            json["name"] = "library/x".into()
        }),
        json("DSC-01", "the tags are", |heard, json| {
            if tag_list(heard) {
                json["tags"].as_array_mut().unwrap().pop();
            }
        }),
        json("DSC-01", "no list `tags`", |_, json| {
            if json["tags"].as_array().is_some_and(Vec::is_empty) {
                json["tags"] = serde_json::Value::Null;
            }
        }),
        json("DSC-02", "neither in lexical", |heard, json| {
            if tag_list(heard) {
                json["tags"].as_array_mut().unwrap().reverse();
            }
        }),
        asks("DSC-03", "n=0 gives", |heard| {
            heard.target = heard.target.replace("n=0", "m=0");
        }),
        asks("DSC-03", "last=a gives", |heard| {
            heard.target = heard.target.replace("last=", "lost=");
        }),
        says("DSC-03", "n=0 has the Link", |heard, said| {
            if heard.target.contains("n=0") {
                said.set("link", "</v2/x/tags/list?last=a>; rel=\"next\"");
            }
        }),
        says("DSC-04", "comes twice", |heard, said| {
            if tag_list(heard)
                && said.body.starts_with(b"{\"name\"")
                && !heard.target.contains("last")
            {
                said.set(
                    "link",
                    &format!("<{}?n=2&last=a>; rel=\"next\"", heard.path()),
                );
            }
        }),
        says("DSC-04", "the pages hold", |_, said| said.remove("link")),
        says("DSC-09", "leads to 2 entries", |_, said| {
            said.remove("link")
        }),
        says("DSC-05", "500, not 200", |heard, said| {
            if heard.target.contains("n=-1") {
                said.json(500, "{}");
            }
        }),
    ]
}

pub(super) fn referrer_lists() -> Vec<Way> {
    vec![
        says("DSC-06", "content-type", |heard, said| {
            if referrers(heard) {
                said.set("content-type", "application/json");
            }
        }),
        json("DSC-06", "annotations of", |heard, json| {
            if referrers(heard) {
                for entry in json["manifests"].as_array_mut().unwrap() {
                    entry.as_object_mut().unwrap().remove("annotations");
                }
            }
        }),
        json("DSC-06", "not left out", |heard, json| {
            if referrers(heard) {
                for entry in json["manifests"].as_array_mut().unwrap() {
                    let fields = entry.as_object_mut().unwrap();
                    fields.entry("artifactType").or_insert("".into());
                }
            }
        }),
        says("DSC-06", "404, not 200", |heard, said| {
            if referrers(heard) {
                said.json(404, "{}");
            }
        }),
        says("DSC-07", "not 400", |heard, said| {
            if referrers(heard) && said.status == 400 {
                said.status = 404;
            }
        }),
        says("DSC-08", "OCI-Filters-Applied is missing", |_, said| {
            said.remove("oci-filters-applied");
        }),
        Way {
            check: "DSC-08",
            words: "entries, not",
            wrong: Wrong::asks(|heard| {
                heard.target = heard.target.replace("artifactType=", "kind=");
            })
            .and_says(|heard, said| {
                if heard.target.contains("kind=") {
                    said.set("oci-filters-applied", "artifactType");
                }
            }),
        },
        says("DSC-10", "200, not 404", |heard, said| {
            if referrers(heard) && said.status == 404 {
                said.json(200, "{\"schemaVersion\":2,\"manifests\":[]}");
            }
        }),
        Way {
            check: "DSC-11",
            words: "a new tag is had",
            wrong: remembering(),
        },
    ]
}
