//! What a client accepts, normalised: the part of the `Accept` header that can change which
//! manifest a registry gives for a tag.
//!
//! A registry may answer one tag with an index to one client and with a platform's manifest to
//! another (distribution's schema2 rewriting), so what a tag means is remembered for each class.
//! Quality values are dropped: no registry orders by them. Order and spelling do not matter.

use http::{HeaderMap, HeaderValue, header};
use oci::media_type::essence;

/// What registries keep as manifests.
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// The lines of a reader of our own, who takes any image.
pub(crate) fn any_image() -> HeaderMap {
    let lines = MANIFESTS.map(|kind| (header::ACCEPT, HeaderValue::from_static(kind)));
    lines
        .into_iter()
        .fold(HeaderMap::new(), |mut headers, (name, kind)| {
            headers.append(name, kind);
            headers
        })
}

/// Longest text kept for a class; a longer list is a class of its own that is cut here.
const CLASS_LENGTH_MAX: usize = 1024;

/// The sorted media types of the `Accept` lines.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AcceptClass(Box<str>);

impl AcceptClass {
    /// The class of a request's header lines; lines that are not text are ignored.
    pub fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT).iter();
        Self::of_lines(lines.filter_map(|line| line.to_str().ok()))
    }

    fn of_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut types: Vec<String> = lines
            .flat_map(|line| line.split(','))
            .map(|item| essence(item).to_ascii_lowercase())
            .filter(|item| !item.is_empty())
            .collect();
        types.sort_unstable();
        types.dedup();
        let mut text = types.join(",");
        text.truncate(text.floor_char_boundary(CLASS_LENGTH_MAX));
        Self(text.into_boxed_str())
    }

    /// The text that keys are made of.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the client named this very type, so that any registry gives it to this client.
    pub fn names(&self, media_type: &str) -> bool {
        let wanted = essence(media_type);
        self.0
            .split(',')
            .any(|item| item.eq_ignore_ascii_case(wanted))
    }

    /// Whether this type may be given when the registry cannot be asked: named, or the client
    /// takes anything (RFC 9110, 12.5.1: no `Accept` means the same as `*/*`).
    pub fn takes(&self, media_type: &str) -> bool {
        let anything = |item: &str| item == "*/*" || item == "application/*";
        self.0.is_empty() || self.0.split(',').any(anything) || self.names(media_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    fn class(lines: &[&str]) -> AcceptClass {
        AcceptClass::of_lines(lines.iter().copied())
    }

    #[test]
    fn order_lines_case_and_quality_make_no_class() {
        let one = class(&[&format!("{INDEX}, {MANIFEST};q=0.5,*/*")]);
        let two = class(&["*/*", &MANIFEST.to_uppercase(), INDEX, INDEX]);
        assert_eq!(one, two);
        assert_ne!(one, class(&[INDEX]));
    }

    #[test]
    fn naming_is_more_than_taking() {
        let wild = class(&["*/*"]);
        assert!(wild.takes(INDEX) && !wild.names(INDEX));
        assert!(class(&[]).takes(INDEX) && !class(&[]).names(INDEX));
        let named = class(&[INDEX]);
        assert!(named.names(INDEX) && named.takes("application/vnd.oci.image.index.v1+json; x=y"));
        assert!(!named.takes(MANIFEST));
    }

    #[test]
    fn a_class_is_bounded() {
        let long = "é".repeat(5000);
        assert!(class(&[&long]).as_str().len() <= CLASS_LENGTH_MAX);
    }
}
