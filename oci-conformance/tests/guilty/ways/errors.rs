//! Wrong ways with errors.

use super::{Way, says};

pub(super) fn words() -> Vec<Way> {
    let unknown = |check, words, status, body: &'static str| {
        says(check, words, move |_, said| {
            if said.status == 404 {
                said.json(status, body);
            }
        })
    };
    vec![
        unknown("ERR-01", "500, not 404", 500, "{}"),
        unknown("ERR-02", "without a list", 404, "{\"error\":\"none\"}"),
        unknown(
            "ERR-02",
            "none of the specification's",
            404,
            "{\"errors\":[{\"code\":\"TAG_INVALID\"}]}",
        ),
        says("ERR-02", "not application/json", |_, said| {
            if said.status == 404 {
                said.set("content-type", "text/plain");
            }
        }),
        says("ERR-02", "of body", |heard, said| {
            if said.status == 404 && heard.method == "HEAD" {
                said.body = b"{}".to_vec();
                said.body_anyway = true;
            }
        }),
        unknown(
            "ERR-03",
            "not BLOB_UNKNOWN",
            404,
            "{\"errors\":[{\"code\":\"NAME_UNKNOWN\"}]}",
        ),
    ]
}

pub(super) fn statuses() -> Vec<Way> {
    vec![
        says("ERR-04", "500, not 400 or 404", |heard, said| {
            if heard.path().ends_with(":") {
                said.json(500, "{}");
            }
        }),
        says("ERR-04", "not DIGEST_INVALID", |heard, said| {
            if heard.path().contains("zz") {
                said.json(400, "{\"errors\":[{\"code\":\"NAME_INVALID\"}]}");
            }
        }),
        says("ERR-06", "501, not 405", |_, said| {
            if said.status == 405 {
                said.status = 501;
            }
        }),
        says("ERR-06", "Allow is missing", |_, said| said.remove("allow")),
        says("ERR-06", "not UNSUPPORTED", |_, said| {
            if said.status == 405 {
                said.body = b"Method Not Allowed".to_vec();
            }
        }),
        says("ERR-09", "404, not 403", |_, said| {
            if said.status == 403 {
                said.status = 404;
            }
        }),
        says("ERR-09", "www-authenticate is", |_, said| {
            if said.status == 401 {
                said.set("www-authenticate", "Basic realm=\"mirror\"");
            }
        }),
        says("ERR-10", "503, not 429", |_, said| {
            if said.status == 429 {
                said.status = 503;
            }
        }),
        says("ERR-10", "Retry-After is missing", |_, said| {
            said.remove("retry-after")
        }),
    ]
}
