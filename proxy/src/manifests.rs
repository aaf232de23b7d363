//! Manifests: what a reference means for this reader, and the bytes behind it.
//!
//! Two steps. *Resolving* finds the digest, media type and size: for a tag by upstream's HEAD under
//! a short time to live, for a digest from the catalog when the reader may. *Reading* takes the bytes
//! from memory, the store, or one GET. The hash of a body is the truth; what upstream says of it is
//! checked against it. Bytes and Content-Type are never changed.
//!
//! In a swarm, the bytes of a public manifest come through the supernode that owns them (`owner`);
//! what a tag means is asked of upstream all the same.
//!
//! A tag is answered stale, with a warning, only while upstream is away and only to a reader whose
//! right is known. Requests never get a 304 or a part (`Range` is ignored, always).

mod owner;
mod read;
mod resolve;

pub(crate) use owner::Owners;
pub(crate) use read::is_kept_by_registries;
pub(crate) use resolve::Failure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use oci::{Digest, Reference};

use crate::access::{Answered, Body};
use crate::front::{Front, Reader};
use crate::grants::Said;
use crate::metrics::Source;
use crate::refusal::Refusal;
use crate::warnings;

/// What a reference means.
#[derive(Clone, Debug)]
pub(crate) struct Resolution {
    pub(crate) digest: Digest,
    /// Byte for byte as upstream sent it.
    pub(crate) media_type: HeaderValue,
    pub(crate) size: u64,
    /// Set when upstream could not be asked: how long ago it last confirmed this.
    pub(crate) stale: Option<Duration>,
    /// What upstream warns of.
    pub(crate) warnings: Arc<[HeaderValue]>,
    /// The bytes, when resolving brought them, and from where.
    pub(crate) whole: Option<(Bytes, Source)>,
    /// Believed until then.
    pub(crate) until: Instant,
}

/// Answers GET or HEAD of a manifest.
pub(crate) async fn serve(
    front: &Front,
    reader: &Reader,
    reference: &Reference,
    head: bool,
) -> Result<Answered, Refusal> {
    let mut resolution = resolve::resolve(front, reader, reference, head).await?;
    let (body, source) = if head {
        (Body::Empty, None)
    } else {
        let (bytes, source) = read::bytes(front, reader, &resolution).await?;
        // What a HEAD said of the size was never checked; the bytes were.
        resolution.size = bytes.len() as u64;
        let place = &reader.place;
        let named = reference.to_string();
        front
            .metrics
            .pulled(place.registry.as_str(), place.repository.as_str(), &named);
        (Body::Full(bytes), Some(source))
    };
    let mut headers = headers(&resolution);
    if front.giver.is_some() && front.is_public(&reader.place, Said::Nothing) {
        headers.insert(owner::PUBLIC, HeaderValue::from_static("1"));
    }
    Ok(Answered {
        status: StatusCode::OK,
        headers,
        body,
        source,
    })
}

/// Brings a manifest here without a client; its length in bytes.
pub(crate) async fn bring(
    front: &Front,
    reader: &Reader,
    reference: &Reference,
) -> Result<u64, Refusal> {
    let document = open(front, reader, reference).await?;
    Ok(document.bytes.len() as u64)
}

/// A manifest, without a client.
pub(crate) struct Document {
    pub(crate) digest: Digest,
    pub(crate) media_type: HeaderValue,
    pub(crate) bytes: Bytes,
}

/// Finds what a reference means, and reads it.
pub(crate) async fn open(
    front: &Front,
    reader: &Reader,
    reference: &Reference,
) -> Result<Document, Refusal> {
    let resolution = resolve::resolve(front, reader, reference, false).await?;
    let (bytes, _) = read::bytes(front, reader, &resolution).await?;
    Ok(Document {
        digest: resolution.digest,
        media_type: resolution.media_type,
        bytes,
    })
}

fn headers(resolution: &Resolution) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, resolution.media_type.clone());
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(resolution.size));
    let digest = HeaderValue::try_from(resolution.digest.to_string());
    headers.insert(
        "docker-content-digest",
        digest.expect("a digest is a header value"),
    );
    if let Some(age) = resolution.stale {
        // The old form for caches, and the one that clients of registries print.
        headers.append(
            header::WARNING,
            HeaderValue::from_static("110 - \"Response is Stale\""),
        );
        let text = format!(
            "299 - \"the registry cannot be asked now; it last confirmed this {} s ago\"",
            age.as_secs()
        );
        let text = HeaderValue::try_from(text).expect("printable text is a header value");
        headers.append(header::WARNING, text);
    }
    warnings::append(&*resolution.warnings, &mut headers);
    headers
}
