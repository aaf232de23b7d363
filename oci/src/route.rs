//! Which endpoint of which registry a request names (distribution-spec v1.1.1 "Endpoints").
//!
//! The registry comes from `?ns=` (spec main, "Registry Proxying"), else from a known registry's
//! name before the repository (`/v2/quay.io/org/app/...`) or before the API
//! (`/quay.io/v2/org/app/...`); without any of them the caller decides. It is a key for the
//! caller's table, never an address. Paths are strict: no empty or dot parts, and no escapes but
//! of characters that stand for themselves. Not here: whether a method is allowed on an endpoint.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use http::Method;

use crate::digest::{Digest, DigestError};
use crate::error::{ErrorCode, OciError};
use crate::reference::{Reference, Registry, Repository};

/// What a request wants, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The registry that the request names, if it names one. An `ns` need not be a known one.
    pub registry: Option<Registry>,
    /// Whether `ns` named it, which the answer should confirm in `OCI-Namespace`.
    pub named_by_ns: bool,
    /// Reads or writes.
    pub access: Access,
    /// The endpoint.
    pub route: Route,
}

/// Whether a request can change the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// GET or HEAD of anything but an upload.
    Read,
    /// Every other method, and all that concerns an upload.
    Write,
}

/// An endpoint with its checked parts. Queries are as the client wrote them, without `ns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// end-1
    Ping,
    /// end-2 and end-10
    Blob {
        /// Where.
        repository: Repository,
        /// Which.
        digest: Digest,
    },
    /// end-3, end-7 and end-9
    Manifest {
        /// Where.
        repository: Repository,
        /// Which.
        reference: Reference,
    },
    /// end-2 or end-3 of a digest that is well formed and of an algorithm that nobody here can check.
    Foreign {
        /// Where.
        repository: Repository,
        /// `blobs/<digest>` or `manifests/<digest>`.
        path: String,
    },
    /// end-4, 5, 6, 11, 13 and 14
    Upload {
        /// Where to.
        repository: Repository,
        /// The running upload; none where one is to begin.
        session: Option<String>,
        /// Without `ns`.
        query: String,
    },
    /// end-8
    Tags {
        /// Of which repository.
        repository: Repository,
        /// Without `ns`.
        query: String,
    },
    /// end-12
    Referrers {
        /// Where.
        repository: Repository,
        /// What is referred to.
        digest: Digest,
        /// Without `ns`.
        query: String,
    },
    /// `/v2/_catalog`, which is not in the spec but is asked all the same.
    Catalog,
}

/// Reads a request line. `known` finds a registry of the caller's table by one of its names.
///
/// # Errors
/// `NAME_INVALID`, `DIGEST_INVALID` (400) for what is malformed; `NAME_UNKNOWN`,
/// `MANIFEST_UNKNOWN`, `BLOB_UNKNOWN` (404) for what is well formed and cannot exist here;
/// `UNSUPPORTED` (405) for a method that the protocol does not have.
pub fn parse(
    method: &Method,
    path: &str,
    query: Option<&str>,
    known: &dyn Fn(&str) -> Option<Registry>,
) -> Result<Target, OciError> {
    let (ns, query) = split_ns(query.unwrap_or_default(), known)?;
    let path = decode(path)?;
    let (before, parts) = split_path(&path)?;
    let prefix = match before {
        None => None,
        Some(name) => Some(known(name).ok_or_else(unknown_registry)?),
    };
    let named_by_ns = ns.is_some();
    let (registry, parts) = choose_registry(ns.or(prefix), parts, known);
    let route = endpoint(parts, query)?;
    let reads = match *method {
        Method::GET | Method::HEAD => !matches!(route, Route::Upload { .. }),
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => false,
        _ => {
            return Err(OciError::new(
                ErrorCode::Unsupported,
                "the registry protocol has no such method",
            ));
        }
    };
    Ok(Target {
        registry,
        named_by_ns,
        access: if reads { Access::Read } else { Access::Write },
        route,
    })
}

impl Route {
    /// The path and query by which a registry itself knows this endpoint; the inverse of [`parse`].
    pub fn path_and_query(&self) -> String {
        let with = |path: String, query: &str| match query {
            "" => path,
            query => format!("{path}?{query}"),
        };
        match self {
            Self::Ping => "/v2/".to_owned(),
            Self::Catalog => "/v2/_catalog".to_owned(),
            Self::Blob { repository, digest } => format!("/v2/{repository}/blobs/{digest}"),
            Self::Manifest {
                repository,
                reference,
            } => format!("/v2/{repository}/manifests/{reference}"),
            Self::Foreign { repository, path } => format!("/v2/{repository}/{path}"),
            Self::Upload {
                repository,
                session,
                query,
            } => {
                let session = session.as_deref().unwrap_or_default();
                with(format!("/v2/{repository}/blobs/uploads/{session}"), query)
            }
            Self::Tags { repository, query } => with(format!("/v2/{repository}/tags/list"), query),
            Self::Referrers {
                repository,
                digest,
                query,
            } => with(format!("/v2/{repository}/referrers/{digest}"), query),
        }
    }
}

/// Takes `ns` out of a query. It may stand there once, however it is escaped.
fn split_ns(
    query: &str,
    known: &dyn Fn(&str) -> Option<Registry>,
) -> Result<(Option<Registry>, String), OciError> {
    let mut ns = None;
    let mut rest = String::with_capacity(query.len());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if *percent_encoding::percent_decode_str(key).collect::<Vec<u8>>() != *b"ns" {
            if !rest.is_empty() {
                rest.push('&');
            }
            rest.push_str(pair);
            continue;
        }
        if ns.is_some() {
            return Err(invalid("ns is given more than once"));
        }
        ns = Some(namespace(value, known)?);
    }
    Ok((ns, rest))
}

/// An IP address is a registry's name only where the operator has made it one.
fn namespace(value: &str, known: &dyn Fn(&str) -> Option<Registry>) -> Result<Registry, OciError> {
    const WRONG: &str = "ns is not the name of a registry: `host` or `host:port`";
    let text = percent_encoding::percent_decode_str(value);
    let text = text.decode_utf8().map_err(|_| invalid(WRONG))?;
    let registry: Registry = text.parse().map_err(|_| invalid(WRONG))?;
    if let Some(known) = known(registry.as_str()) {
        return Ok(known);
    }
    let host = registry.as_str().split(':').next().unwrap_or_default();
    if host.parse::<Ipv4Addr>().is_ok() {
        return Err(invalid(
            "ns is an address that is not configured as a registry",
        ));
    }
    Ok(registry)
}

/// Undoes escapes of characters that need none (some clients write `sha256%3A`), refuses all others.
fn decode(path: &str) -> Result<Cow<'_, str>, OciError> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((plain, escaped)) = rest.split_once('%') {
        let byte = escaped
            .get(..2)
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = byte.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let harmless = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':');
        let byte = byte
            .filter(harmless)
            .ok_or_else(|| invalid("the path has escapes that no name can hold"))?;
        decoded.push_str(plain);
        decoded.push(char::from(byte));
        rest = &escaped[2..];
    }
    decoded.push_str(rest);
    Ok(Cow::Owned(decoded))
}

/// What stands before `/v2`, and the parts after it. A last empty part stands for a closing slash.
fn split_path(path: &str) -> Result<(Option<&str>, Vec<&str>), OciError> {
    let nowhere = || {
        OciError::new(
            ErrorCode::NameUnknown,
            "the registry protocol lives under /v2/",
        )
    };
    let mut parts: Vec<&str> = path
        .strip_prefix('/')
        .ok_or_else(nowhere)?
        .split('/')
        .collect();
    let last = parts.len() - 1;
    let odd = |(index, part): (usize, &&str)| match *part {
        "" => index != last,
        "." | ".." => true,
        part => part.bytes().any(|b| b.is_ascii_control() || b == b'\\'),
    };
    if parts.iter().enumerate().any(odd) {
        return Err(invalid("the path has empty, dot or control parts"));
    }
    let (before, api) = match parts.as_slice() {
        ["v2", ..] => (None, 1),
        [name, "v2", ..] => (Some(*name), 2),
        _ => return Err(nowhere()),
    };
    Ok((before, parts.split_off(api)))
}

/// Takes a registry's name off the front of the path: any known one if nothing else named the
/// registry, or else its own, which a client with a host prefix in its set-up repeats beside `ns`.
fn choose_registry<'p>(
    named: Option<Registry>,
    mut parts: Vec<&'p str>,
    known: &dyn Fn(&str) -> Option<Registry>,
) -> (Option<Registry>, Vec<&'p str>) {
    let first = parts.first().and_then(|first| known(first));
    let takes = match (&named, &first) {
        (Some(named), Some(first)) => named == first,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    if takes {
        parts.remove(0);
    }
    (named.or(first), parts)
}

fn endpoint(parts: Vec<&str>, query: String) -> Result<Route, OciError> {
    let repository = |parts: &[&str]| -> Result<Repository, OciError> {
        let name = parts.join("/").parse();
        name.map_err(|why| OciError::new(ErrorCode::NameInvalid, format!("{why}")))
    };
    Ok(match parts.as_slice() {
        [] | [""] => Route::Ping,
        ["_catalog"] => Route::Catalog,
        [name @ .., "blobs", "uploads"] => Route::Upload {
            repository: repository(name)?,
            session: None,
            query,
        },
        [name @ .., "blobs", "uploads", session] => Route::Upload {
            repository: repository(name)?,
            session: (!session.is_empty()).then(|| (*session).to_owned()),
            query,
        },
        [name @ .., kind @ ("blobs" | "manifests"), text] if is_foreign(text) => Route::Foreign {
            repository: repository(name)?,
            path: format!("{kind}/{text}"),
        },
        [name @ .., "manifests", text] => Route::Manifest {
            repository: repository(name)?,
            reference: reference(text)?,
        },
        [name @ .., "blobs", text] => Route::Blob {
            repository: repository(name)?,
            digest: digest(text, ErrorCode::BlobUnknown)?,
        },
        [name @ .., "tags", "list"] => Route::Tags {
            repository: repository(name)?,
            query,
        },
        [name @ .., "referrers", text] => Route::Referrers {
            repository: repository(name)?,
            digest: digest(text, ErrorCode::ManifestUnknown)?,
            query,
        },
        _ => {
            return Err(OciError::new(
                ErrorCode::NameUnknown,
                "the registry protocol has no such endpoint",
            ));
        }
    })
}

/// A text with a colon is meant as a digest. No error code fits a bad tag; there can be no such one.
fn reference(text: &str) -> Result<Reference, OciError> {
    if text.contains(':') {
        return digest(text, ErrorCode::ManifestUnknown).map(Reference::Digest);
    }
    let tag = text.parse().map(Reference::Tag);
    tag.map_err(|why| OciError::new(ErrorCode::ManifestUnknown, format!("{why}")))
}

/// A digest of an algorithm that we do not verify is well formed, so it is `unknown`, not invalid.
fn digest(text: &str, unknown: ErrorCode) -> Result<Digest, OciError> {
    text.parse().map_err(|why| {
        let code = match is_foreign(text) {
            true => unknown,
            false => ErrorCode::DigestInvalid,
        };
        OciError::new(code, format!("{why}"))
    })
}

/// Whether this is a digest, of an algorithm that we do not verify.
fn is_foreign(text: &str) -> bool {
    text.parse::<Digest>() == Err(DigestError::Algorithm) && fits_digest_grammar(text)
}

/// image-spec v1.1.1 "Digests": `[a-z0-9]+([+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+`
fn fits_digest_grammar(text: &str) -> bool {
    let Some((algorithm, encoded)) = text.split_once(':') else {
        return false;
    };
    let word = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let symbol = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-');
    algorithm.split(['+', '.', '_', '-']).all(word)
        && !encoded.is_empty()
        && encoded.bytes().all(symbol)
}

fn invalid(message: &'static str) -> OciError {
    OciError::new(ErrorCode::NameInvalid, message)
}

fn unknown_registry() -> OciError {
    OciError::new(
        ErrorCode::NameUnknown,
        "the path begins with a registry that is not configured",
    )
}

#[cfg(test)]
mod tests;
