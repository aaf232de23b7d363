//! The media types of manifests, and how a `Content-Type` is read.
//!
//! image-spec v1.1.1 "Media Types" and Docker's older names for the same things. Types of layers
//! and configs are never looked at.

/// image-spec manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// image-spec index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The artifact manifest of image-spec 1.1's release candidates; still stored here and there.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// Docker's manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index, the "manifest list".
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What blobs are served as.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// An `Accept` value that takes any manifest as it is stored; for requests that are our own.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws, \
    application/vnd.docker.distribution.manifest.v1+json";

/// What kind of document a media type announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Names a config and layers.
    Manifest,
    /// Names manifests.
    Index,
    /// Docker's schema 1: signed, names layers without their sizes. Passed on, never read.
    Schema1,
    /// Not a manifest that we know.
    Other,
}

/// A `Content-Type` without its parameters.
pub fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The kind of document that a `Content-Type` announces; letter case does not matter.
pub fn kind(content_type: &str) -> Kind {
    const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+";
    let essence = essence(content_type).to_ascii_lowercase();
    match essence.as_str() {
        OCI_MANIFEST | DOCKER_MANIFEST | OCI_ARTIFACT => Kind::Manifest,
        OCI_INDEX | DOCKER_LIST => Kind::Index,
        other if other.starts_with(SCHEMA1) => Kind::Schema1,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_matter() {
        let shouted = format!(" {} ; charset=utf-8", OCI_INDEX.to_uppercase());
        assert_eq!(kind(&shouted), Kind::Index);
        assert_eq!(kind(DOCKER_MANIFEST), Kind::Manifest);
        assert_eq!(kind("text/html"), Kind::Other);
        assert_eq!(kind(""), Kind::Other);
    }

    #[test]
    fn every_manifest_type_is_accepted() {
        let accepted: Vec<&str> = ACCEPT_MANIFESTS.split(',').map(essence).collect();
        for known in [
            OCI_INDEX,
            OCI_MANIFEST,
            DOCKER_LIST,
            DOCKER_MANIFEST,
            OCI_ARTIFACT,
        ] {
            assert!(accepted.contains(&known), "{known}");
        }
        assert!(
            accepted
                .iter()
                .all(|accepted| kind(accepted) != Kind::Other)
        );
    }
}
