//! Writes: relayed to the registry with the client's own rights, never answered from what is held.
//!
//! One request becomes one request to the official endpoint; its body is streamed and its answer
//! told as it was, but `Location` leads back here. What was believed of the place is forgotten when
//! upstream has taken a write, or may have. An upload's own state is upstream's: nothing of it is
//! kept here.
//!
//! Not here: the cache. What was pushed is fetched when somebody reads it.

mod incoming;
mod location;
mod seal;
mod touched;

pub(crate) use incoming::ClientBody;
pub(crate) use seal::Seals;

use http::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, EXPECT, HeaderName, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use oci::query;
use oci::{Digest, Reference, Registry, Repository, Route};

use crate::access::{Answered, Body};
use crate::front::{Front, Reader};
use crate::metrics::UpstreamKind;
use crate::refusal::{Kind, Refusal};
use crate::upstream::{Next, To, Write, Written};
use crate::warnings;
use incoming::Fate;
use location::Door;
use touched::Touched;

/// What of a request is for upstream, besides the body's length.
const SENT: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_RANGE, EXPECT];
/// What of upstream's answer is for the client, besides the `Location`.
const TOLD: [HeaderName; 6] = [
    RANGE,
    HeaderName::from_static("docker-content-digest"),
    HeaderName::from_static("docker-upload-uuid"),
    HeaderName::from_static("oci-subject"),
    HeaderName::from_static("oci-tag"),
    HeaderName::from_static("oci-chunk-min-length"),
];

/// A request that writes, without its body.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
}

/// What is written to.
enum Target {
    Uploads { query: String },
    Session { to: To },
    Manifest { reference: Reference, query: String },
    Blob(Digest),
}

/// The methods of a route, if this one is not among them.
pub(crate) fn not_allowed(route: &Route, method: &Method) -> Option<&'static str> {
    let allowed = match route {
        Route::Upload { session: None, .. } => "POST",
        Route::Upload { .. } => "GET, PATCH, PUT, DELETE",
        Route::Manifest { .. } => "GET, HEAD, PUT, DELETE",
        Route::Blob { .. } => "GET, HEAD, DELETE",
        Route::Ping | Route::Tags { .. } | Route::Referrers { .. } | Route::Catalog => "GET, HEAD",
    };
    let is = allowed.split(", ").any(|one| one == method.as_str());
    (!is).then_some(allowed)
}

/// Relays one write. The method is one of the route's.
pub(crate) async fn serve(
    front: &Front,
    reader: &Reader,
    asked: Asked<'_>,
    route: Route,
    body: ClientBody,
) -> Result<Answered, Refusal> {
    let relay = Relay {
        door: Door::of(asked.uri).ok_or_else(Refusal::escaped_path)?,
        target: target(front, reader, route, asked.uri)?,
        front,
        reader,
        asked,
    };
    relay.run(body).await
}

fn target(front: &Front, reader: &Reader, route: Route, uri: &Uri) -> Result<Target, Refusal> {
    Ok(match route {
        Route::Upload {
            session: None,
            query,
            ..
        } => Target::Uploads {
            query: mount_query(front, reader, query),
        },
        Route::Upload {
            session: Some(session),
            query,
            ..
        } => Target::Session {
            to: match seal::is_sealed(&session) {
                true => {
                    let url = front.seals.open(&reader.place, &session);
                    let url = url.ok_or_else(Refusal::unknown_upload)?;
                    To::Named(with_query(url, &query).ok_or_else(Refusal::unknown_upload)?)
                }
                false => To::Api(joined(format!("blobs/uploads/{session}"), &query)),
            },
        },
        Route::Manifest { reference, .. } => Target::Manifest {
            reference,
            query: query::without(uri.query().unwrap_or_default(), "ns"),
        },
        Route::Blob { digest, .. } => Target::Blob(digest),
        Route::Ping | Route::Tags { .. } | Route::Referrers { .. } | Route::Catalog => {
            return Err(Refusal::method("GET, HEAD"));
        }
    })
}

/// The query of a new upload, with the source of a mount as upstream names it. One in another
/// registry cannot be mounted: then it is an upload like any other.
fn mount_query(front: &Front, reader: &Reader, query: String) -> String {
    let Some(from) = query::value(&query, "from") else {
        return query;
    };
    let named = from.split_once('/');
    let registry: Option<Registry> = named.and_then(|(first, _)| front.upstreams.knows(first));
    let name = match (registry, named) {
        (Some(registry), _) if registry != reader.place.registry => {
            return query::without(&query::without(&query, "from"), "mount");
        }
        (Some(_), Some((_, rest))) => rest,
        _ => &from,
    };
    let Ok(repository) = name.parse::<Repository>() else {
        return query;
    };
    let theirs = reader.upstream.official_name(&repository);
    if theirs == from {
        return query;
    }
    let pair = format!("from={theirs}");
    match query::without(&query, "from") {
        rest if rest.is_empty() => pair,
        rest => format!("{rest}&{pair}"),
    }
}

fn joined(path: String, query: &str) -> String {
    match query {
        "" => path,
        query => format!("{path}?{query}"),
    }
}

/// An address with what the client adds to its query.
fn with_query(url: Uri, query: &str) -> Option<Uri> {
    if query.is_empty() {
        return Some(url);
    }
    let mark = if url.query().is_some() { '&' } else { '?' };
    format!("{url}{mark}{query}").parse().ok()
}

struct Relay<'a> {
    front: &'a Front,
    reader: &'a Reader,
    asked: Asked<'a>,
    target: Target,
    door: Door,
}

impl Relay<'_> {
    async fn run(self, body: ClientBody) -> Result<Answered, Refusal> {
        let max = matches!(self.target, Target::Manifest { .. })
            .then_some(self.front.limits.manifest_bytes);
        if body.is_longer_than(max) {
            return Err(Refusal::too_large());
        }
        let fate = body.fate();
        let mut touched = self.touches();
        let write = Write {
            method: self.asked.method.clone(),
            repository: self.reader.place.repository.clone(),
            to: self.to(),
            headers: self.sent(),
            credential: self.reader.credential.clone(),
            body: body.into_upload(max),
        };
        let answer = self.reader.upstream.write(write).await;
        let status = answer.as_ref().ok().map(|written| written.status);
        let registry = self.reader.place.registry.as_str();
        let metrics = &self.front.metrics;
        metrics.upstream_request(registry, UpstreamKind::Write, status);
        if let Some(status) = status
            && self.is_refusal(status)
        {
            touched.spare();
        }
        drop(touched);
        match answer {
            Ok(written) => self.told(written),
            Err(error) => {
                tracing::debug!(place = %self.reader.place, %error, "a write got no answer");
                Err(match fate.get() {
                    Fate::TooLong => Refusal::too_large(),
                    Fate::Silent => Refusal::silent_client(),
                    _ => Refusal::upstream(self.kind(), &error),
                })
            }
        }
    }

    /// What is believed no longer, unless upstream refuses.
    fn touches(&self) -> Touched<'_> {
        let mut touched = Touched::new(self.front, &self.reader.place);
        match &self.target {
            Target::Uploads { query } => {
                let makes = ["mount", "digest"].map(|key| query::value(query, key).is_some());
                if !makes.contains(&true) {
                    touched.spare();
                }
            }
            Target::Session { .. } if self.asked.method != Method::PUT => touched.spare(),
            Target::Session { .. } => {}
            Target::Manifest { reference, query } => {
                touched.reference(reference, *self.asked.method == Method::DELETE);
                for (_, tag) in query::pairs(query).filter(|(key, _)| key == "tag") {
                    if let Ok(tag) = tag.parse() {
                        touched.reference(&Reference::Tag(tag), false);
                    }
                }
            }
            Target::Blob(digest) => touched.blob(digest),
        }
        touched
    }

    /// Whether upstream says that nothing has changed. What it does not find to delete is gone.
    fn is_refusal(&self, status: StatusCode) -> bool {
        let gone = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        status.is_client_error() && !(gone && self.asked.method == Method::DELETE)
    }

    fn to(&self) -> To {
        match &self.target {
            Target::Uploads { query } => To::Api(joined("blobs/uploads/".to_owned(), query)),
            Target::Session { to } => to.clone(),
            Target::Manifest { reference, query } => {
                To::Api(joined(format!("manifests/{reference}"), query))
            }
            Target::Blob(digest) => To::Api(format!("blobs/{digest}")),
        }
    }

    fn sent(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        for name in SENT {
            if let Some(value) = self.asked.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        headers
    }

    fn kind(&self) -> Kind {
        match self.target {
            Target::Uploads { .. } | Target::Session { .. } => Kind::Upload,
            Target::Manifest { .. } => Kind::Manifest,
            Target::Blob(_) => Kind::Deletion,
        }
    }

    /// Upstream's answer in our words, with our `Location`.
    fn told(&self, written: Written) -> Result<Answered, Refusal> {
        let moved = matches!(
            written.status,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        let mut headers = HeaderMap::with_capacity(12);
        for name in TOLD {
            for value in written.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        warnings::relay(&written.headers, &mut headers);
        if let Some(location) = self.location(&written)? {
            headers.insert(LOCATION, location);
        }
        let follows =
            moved && matches!(self.kind(), Kind::Upload) && headers.contains_key(LOCATION);
        if written.status.is_success() || follows {
            return Ok(Answered {
                status: written.status,
                headers,
                body: Body::Empty,
                source: None,
            });
        }
        if written.status == StatusCode::METHOD_NOT_ALLOWED
            && let Some(allow) = written.headers.get(ALLOW)
        {
            headers.insert(ALLOW, allow.clone());
        }
        Err(Refusal::written(self.kind(), &written, headers))
    }

    /// Where the client finds what it made, or goes on.
    fn location(&self, written: &Written) -> Result<Option<HeaderValue>, Refusal> {
        let said = written.headers.get("docker-content-digest");
        let said = said
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let said = said.filter(|text| location::is_digest(text));
        let created = written.status == StatusCode::CREATED;
        let location = match &self.target {
            Target::Manifest { reference, .. } if created => {
                let named = said.unwrap_or_else(|| reference.to_string());
                Some(self.door.manifest(&named))
            }
            Target::Manifest { .. } | Target::Blob(_) => None,
            Target::Uploads { .. } | Target::Session { .. } if created => {
                let query = self.asked.uri.query().unwrap_or_default();
                let asked = ["digest", "mount"].map(|key| query::value(query, key));
                let asked = asked
                    .into_iter()
                    .flatten()
                    .find(|text| location::is_digest(text));
                asked.or(said).map(|digest| self.door.blob(&digest))
            }
            Target::Uploads { .. } | Target::Session { .. } => match &written.next {
                None => None,
                // What it calls so would be taken for a name of ours.
                Some(Next::Session { id, .. }) if seal::is_sealed(id) => {
                    return Err(Refusal::invalid(
                        self.kind(),
                        "the registry's answer makes no sense",
                    ));
                }
                Some(Next::Session { id, query }) => Some(self.door.upload(id, query)),
                Some(Next::Named(url)) => {
                    let sealed = self.front.seals.seal(&self.reader.place, url);
                    let long =
                        || Refusal::invalid(self.kind(), "the registry's Location is too long");
                    Some(self.door.upload(&sealed.ok_or_else(long)?, ""))
                }
            },
        };
        Ok(location.and_then(|location| HeaderValue::try_from(location).ok()))
    }
}
