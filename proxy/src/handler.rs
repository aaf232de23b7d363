//! From a request to an answer: which registry, which endpoint, who asks.
//!
//! Ping never asks upstream. A registry that is not in the table is refused before anything is
//! dialled. The `Authorization` of a request goes into the reader's credential and nowhere else.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Body;
use oci::Registry;
use oci::client::BoxError;
use oci::route::{Access, Route, Target, parse};

use crate::accept::AcceptClass;
use crate::access::{Answered, Line};
use crate::blobs;
use crate::front::{Front, Reader};
use crate::http::{ConnInfo, ResponseBody};
use crate::lists;
use crate::manifests;
use crate::metrics::RouteKind;
use crate::peers::Giver;
use crate::place::Place;
use crate::refusal::Refusal;
use crate::upstream::Credential;
use crate::writes::{self, ClientBody};

const API_VERSION: &str = "docker-distribution-api-version";

/// Answers one request; never fails, and reads the body of a write alone.
pub(crate) async fn answer<B>(
    front: Arc<Front>,
    request: Request<B>,
    client: ConnInfo,
) -> Response<ResponseBody>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    // A name that is a repository's everywhere else; a seed serves no clients' own pulls of it.
    if let Some(giver) = &front.giver
        && Giver::knows(request.uri().path())
    {
        return Box::pin(giver.clone().answer(request)).await;
    }
    let (head, body) = request.into_parts();
    let line = Line::of(&head.method, &head.uri, &head.headers, client);
    let asked = Asked {
        method: head.method,
        uri: head.uri,
        headers: head.headers,
    };
    let is_head = asked.method == Method::HEAD;
    let (answer, kind, namespace, unread) = match asked.target(&front) {
        Ok(target) => {
            let namespace = target.named_by_ns.then(|| asked.namespace()).flatten();
            let kind = kind_of(&target);
            let (answer, unread) = match target.access {
                Access::Read => (dispatch(&front, &asked, target).await, false),
                Access::Write => {
                    let body = ClientBody::new(body);
                    let fate = body.fate();
                    let answer = Box::pin(write(&front, &asked, target, body)).await;
                    (answer, !fate.is_whole())
                }
            };
            (answer, kind, namespace, unread)
        }
        Err(refusal) => (Err(refusal), RouteKind::Other, None, !body.is_end_stream()),
    };
    let mut answered = answer.unwrap_or_else(|refusal| refusal.answer(is_head));
    let headers = &mut answered.headers;
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let Some(namespace) = namespace {
        headers.insert("oci-namespace", namespace);
    }
    if unread {
        // What is left of the body would have to be taken in before the next request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    line.finish(answered, kind, &front.metrics)
}

fn kind_of(target: &Target) -> RouteKind {
    match target.route {
        _ if target.access == Access::Write => RouteKind::Write,
        Route::Ping => RouteKind::Ping,
        Route::Manifest { .. } => RouteKind::Manifest,
        Route::Blob { .. } => RouteKind::Blob,
        Route::Tags { .. } => RouteKind::Tags,
        Route::Referrers { .. } => RouteKind::Referrers,
        Route::Catalog => RouteKind::Catalog,
        Route::Upload { .. } => RouteKind::Write,
    }
}

/// All but manifests are boxed: a request's future is moved before it first runs, and these are large.
async fn dispatch(front: &Front, asked: &Asked, target: Target) -> Result<Answered, Refusal> {
    let head = asked.method == Method::HEAD;
    let reader = |repository| asked.reader(front, &target, repository);
    match target.route.clone() {
        Route::Ping => {
            // Whoever names a registry here is a client that asks for no challenge.
            let hub = target.registry.is_none().then(Registry::docker_hub);
            let upstream = hub.and_then(|hub| front.upstreams.get(&hub));
            let ping = &front.ping;
            Box::pin(ping.answer(upstream.as_deref(), &asked.headers, head)).await
        }
        Route::Manifest {
            repository,
            reference,
        } => manifests::serve(front, &reader(repository)?, &reference, head).await,
        Route::Blob { repository, digest } if head => {
            Box::pin(blobs::head(front, &reader(repository)?, &digest)).await
        }
        Route::Blob { repository, digest } => {
            Box::pin(blobs::get(
                front,
                &reader(repository)?,
                &digest,
                &asked.headers,
            ))
            .await
        }
        Route::Tags { repository, query } => {
            let reader = reader(repository)?;
            Box::pin(lists::tags(front, &reader, &query, &asked.uri, head)).await
        }
        Route::Referrers {
            repository,
            digest,
            query,
        } => {
            let reader = reader(repository)?;
            let of = (digest, query);
            Box::pin(lists::referrers(front, &reader, of, &asked.uri, head)).await
        }
        // Never a read.
        Route::Upload { .. } => Err(Refusal::method("POST")),
        Route::Catalog => Err(Refusal::unsupported()),
    }
}

async fn write(
    front: &Front,
    asked: &Asked,
    target: Target,
    body: ClientBody,
) -> Result<Answered, Refusal> {
    if front.read_only {
        return Err(Refusal::read_only());
    }
    if let Some(allowed) = writes::not_allowed(&target.route, &asked.method) {
        return Err(Refusal::method(allowed));
    }
    let repository = match &target.route {
        Route::Upload { repository, .. }
        | Route::Manifest { repository, .. }
        | Route::Blob { repository, .. } => repository.clone(),
        Route::Ping | Route::Tags { .. } | Route::Referrers { .. } | Route::Catalog => {
            return Err(Refusal::method("GET, HEAD"));
        }
    };
    let reader = asked.reader(front, &target, repository)?;
    let written = writes::Asked {
        method: &asked.method,
        uri: &asked.uri,
        headers: &asked.headers,
    };
    writes::serve(front, &reader, written, target.route, body).await
}

/// A request without its body.
struct Asked {
    method: Method,
    uri: http::Uri,
    headers: HeaderMap,
}

impl Asked {
    /// The value of `ns` as the client wrote it, which the answer confirms.
    fn namespace(&self) -> Option<HeaderValue> {
        let mut pairs = self.uri.query()?.split('&');
        let value = pairs.find_map(|pair| pair.strip_prefix("ns="))?;
        HeaderValue::try_from(value.replace("%3A", ":").replace("%3a", ":")).ok()
    }

    fn target(&self, front: &Front) -> Result<Target, Refusal> {
        let known = |name: &str| front.upstreams.knows(name);
        parse(&self.method, self.uri.path(), self.uri.query(), &known).map_err(|error| match error
            .status
        {
            StatusCode::METHOD_NOT_ALLOWED if front.read_only => Refusal::read_only(),
            StatusCode::METHOD_NOT_ALLOWED => {
                Refusal::method("GET, HEAD, POST, PUT, PATCH, DELETE")
            }
            _ => Refusal::malformed(error),
        })
    }

    fn reader(
        &self,
        front: &Front,
        target: &Target,
        repository: oci::Repository,
    ) -> Result<Reader, Refusal> {
        if front.is_own(&self.headers) {
            return Err(Refusal::looped());
        }
        let registry = target.registry.clone().unwrap_or_else(Registry::docker_hub);
        let upstream = front.upstreams.get(&registry);
        let upstream = upstream.ok_or_else(Refusal::unknown_registry)?;
        let place = Place {
            registry,
            repository,
        };
        Ok(Reader {
            generation: front.generations.of(&place),
            place,
            upstream,
            credential: Credential::from_header(self.headers.get(header::AUTHORIZATION)),
            accept: self
                .headers
                .get_all(header::ACCEPT)
                .iter()
                .cloned()
                .collect(),
            class: AcceptClass::of(&self.headers),
            by_ns: target.named_by_ns,
        })
    }
}
