//! The closed sets of label values.

use ::http::{Method, StatusCode};

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// `/v2/`.
    Ping,
    /// A manifest by tag or digest.
    Manifest,
    /// A blob.
    Blob,
    /// A list of tags.
    Tags,
    /// A list of referrers.
    Referrers,
    /// The list of repositories.
    Catalog,
    /// Anything that writes.
    Write,
    /// Anything else.
    Other,
}

impl RouteKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Ping,
        Self::Manifest,
        Self::Blob,
        Self::Tags,
        Self::Referrers,
        Self::Catalog,
        Self::Write,
        Self::Other,
    ];

    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::Catalog => "catalog",
            Self::Write => "write",
            Self::Other => "other",
        }
    }
}

/// Where bytes came from, as far as the client of this node is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// They were held here.
    Store,
    /// Another node.
    Peer,
    /// The supernode.
    Supernode,
    /// A registry.
    Upstream,
}

impl Source {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Store, Self::Peer, Self::Supernode, Self::Upstream];

    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Peer => "peer",
            Self::Supernode => "supernode",
            Self::Upstream => "upstream",
        }
    }
}

impl From<swarm::Origin> for Source {
    fn from(origin: swarm::Origin) -> Self {
        match origin {
            swarm::Origin::Upstream => Self::Upstream,
            swarm::Origin::Supernode => Self::Supernode,
            swarm::Origin::Peer => Self::Peer,
        }
    }
}

/// What a registry was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamKind {
    /// GET of a manifest: what Docker Hub's quota counts.
    ManifestGet,
    /// HEAD of a manifest.
    ManifestHead,
    /// GET of a blob or a range of it.
    BlobGet,
    /// HEAD of a blob.
    BlobHead,
    /// A token.
    Token,
    /// A client's write.
    Write,
    /// Lists, pings.
    Other,
}

impl UpstreamKind {
    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::ManifestGet => "manifest_get",
            Self::ManifestHead => "manifest_head",
            Self::BlobGet => "blob_get",
            Self::BlobHead => "blob_head",
            Self::Token => "token",
            Self::Write => "write",
            Self::Other => "other",
        }
    }
}

pub(super) const METHODS: [&str; 3] = ["GET", "HEAD", "other"];
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// The place of `5xx` in [`CLASSES`].
pub(super) const FAILED: usize = 4;

pub(super) fn method(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        _ => 2,
    }
}

pub(super) fn class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1
}
