//! What these tests share: an upstream over scripted endpoints, and short ways to ask it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{HeaderValue, Method};
use oci::Reference;
use oci::client::{ClientConfig, Timeouts};
use oci_conformance::Origin;
use proxy::upstream::{
    Answer, Ask, Credential, EndpointConfig, RegistryConfig, Secret, Upstream, UpstreamError,
    Upstreams, UpstreamsConfig, What,
};
use swarm::{FetchRange, SourceError};

pub(crate) const REPOSITORY: &str = "library/app";

/// A registry served by these origins, in this order.
pub(crate) fn registry(origins: &[&Origin]) -> RegistryConfig {
    RegistryConfig {
        name: "r.test".into(),
        endpoints: origins
            .iter()
            .map(|origin| EndpointConfig::at(origin.url()))
            .collect(),
        ..RegistryConfig::default()
    }
}

pub(crate) fn upstream(registry: RegistryConfig) -> Arc<Upstream> {
    let client = ClientConfig {
        timeouts: Timeouts {
            head: Duration::from_secs(2),
            body_idle: Duration::from_secs(2),
            ..Timeouts::default()
        },
        ..ClientConfig::bare()
    };
    let name = registry.name.clone();
    let config = UpstreamsConfig {
        public: false,
        registries: vec![registry],
        ratelimit: None,
    };
    let table = Upstreams::with_client(&config, client).unwrap();
    table.get(&name.parse().unwrap()).unwrap()
}

pub(crate) fn ask(method: Method, what: What) -> Ask {
    Ask {
        method,
        repository: REPOSITORY.parse().unwrap(),
        what,
        accept: vec![HeaderValue::from_static("*/*")],
        range: None,
        credential: Credential::Anonymous,
    }
}

pub(crate) fn tag(name: &str) -> Ask {
    ask(
        Method::GET,
        What::Manifest(Reference::Tag(name.parse().unwrap())),
    )
}

pub(crate) fn with(ask: Ask, authorization: &str) -> Ask {
    Ask {
        credential: Credential::Client(Secret::new(authorization)),
        ..ask
    }
}

/// The body of a good answer.
pub(crate) async fn text(answer: Result<Answer, UpstreamError>) -> Bytes {
    let body = answer.unwrap().body.collect(1 << 20).await.unwrap();
    body.expect("the body is small")
}

/// Start, total and bytes of what a blob source gives.
pub(crate) async fn fetch(
    upstream: &Arc<Upstream>,
    digest: &str,
    range: FetchRange,
) -> Result<(u64, u64, Vec<u8>), SourceError> {
    let source = upstream.blob_source(REPOSITORY.parse().unwrap(), Credential::Anonymous);
    let fetched = source.fetch(&digest.parse().unwrap(), range).await?;
    let frames: Vec<Bytes> = fetched.body.try_collect().await?;
    Ok((fetched.start, fetched.total, frames.concat()))
}

/// The bytes that come before the error, and the error.
pub(crate) async fn fetch_until_error(
    upstream: &Arc<Upstream>,
    digest: &str,
) -> (usize, Option<SourceError>) {
    let source = upstream.blob_source(REPOSITORY.parse().unwrap(), Credential::Anonymous);
    let digest = digest.parse().unwrap();
    let mut fetched = source.fetch(&digest, FetchRange::All).await.unwrap();
    let mut bytes = 0;
    while let Some(frame) = fetched.body.next().await {
        match frame {
            Ok(frame) => bytes += frame.len(),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}
