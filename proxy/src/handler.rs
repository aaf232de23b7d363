//! From a request to an answer: which registry, which endpoint, who asks.
//!
//! Ping never asks upstream. A registry that is not in the table is refused before anything is
//! dialled. The `Authorization` of a request goes into the reader's credential and nowhere else.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use oci::Registry;
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
use crate::upstream::{Credential, What};

const API_VERSION: &str = "docker-distribution-api-version";

/// Answers one request; never fails, never reads a request's body.
pub(crate) async fn answer<B>(
    front: Arc<Front>,
    request: Request<B>,
    client: ConnInfo,
) -> Response<ResponseBody> {
    // A name that is a repository's everywhere else; a seed serves no clients' own pulls of it.
    if let Some(giver) = &front.giver
        && Giver::knows(request.uri().path())
    {
        return Box::pin(giver.clone().answer(request)).await;
    }
    let (head, _body) = request.into_parts();
    let line = Line::of(&head.method, &head.uri, &head.headers, client);
    let asked = Asked {
        method: head.method,
        uri: head.uri,
        headers: head.headers,
    };
    let is_head = asked.method == Method::HEAD;
    let (answer, kind, namespace) = match asked.target(&front) {
        Ok(target) => {
            let namespace = target.named_by_ns.then(|| asked.namespace()).flatten();
            let kind = kind_of(&target);
            (dispatch(&front, &asked, target).await, kind, namespace)
        }
        Err(refusal) => (Err(refusal), RouteKind::Other, None),
    };
    let mut answered = answer.unwrap_or_else(|refusal| refusal.answer(is_head));
    let headers = &mut answered.headers;
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let Some(namespace) = namespace {
        headers.insert("oci-namespace", namespace);
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
    if target.access == Access::Write {
        return Err(Refusal::method());
    }
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
            let what = What::Tags { query };
            Box::pin(lists::serve(
                front,
                &reader(repository)?,
                what,
                &asked.uri,
                head,
            ))
            .await
        }
        Route::Referrers {
            repository,
            digest,
            query,
        } => {
            let what = What::Referrers { digest, query };
            Box::pin(lists::serve(
                front,
                &reader(repository)?,
                what,
                &asked.uri,
                head,
            ))
            .await
        }
        Route::Upload { .. } => Err(Refusal::method()),
        Route::Catalog => Err(Refusal::unsupported()),
    }
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
            StatusCode::METHOD_NOT_ALLOWED => Refusal::method(),
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
        Ok(Reader {
            place: Place {
                registry,
                repository,
            },
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
