//! Errors as the protocol words them: `{"errors":[{"code","message","detail"}]}`.
//!
//! The codes are the closed list of distribution-spec v1.1.1 "Error Codes"; one more, for 5xx
//! bodies, which the spec leaves open. Not here: response headers, and which fault of ours becomes
//! which answer.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

/// An error code; printed in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The registry does not have this blob.
    BlobUnknown,
    /// A blob upload went wrong.
    BlobUploadInvalid,
    /// There is no such upload.
    BlobUploadUnknown,
    /// The digest is malformed or does not fit the content.
    DigestInvalid,
    /// A manifest names a manifest or blob that the registry does not have.
    ManifestBlobUnknown,
    /// The manifest is not valid.
    ManifestInvalid,
    /// The registry does not have this manifest.
    ManifestUnknown,
    /// The repository's name is not valid.
    NameInvalid,
    /// The registry does not have this repository.
    NameUnknown,
    /// The length does not fit the content.
    SizeInvalid,
    /// The client must say who it is.
    Unauthorized,
    /// The client is known and has no right to this.
    Denied,
    /// The operation is not offered here.
    Unsupported,
    /// Too many requests.
    TooManyRequests,
    /// Upstream could not be asked. Not in the spec's list, so for 5xx only, as distribution has it.
    Unavailable,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 15] = [
        Self::BlobUnknown,
        Self::BlobUploadInvalid,
        Self::BlobUploadUnknown,
        Self::DigestInvalid,
        Self::ManifestBlobUnknown,
        Self::ManifestInvalid,
        Self::ManifestUnknown,
        Self::NameInvalid,
        Self::NameUnknown,
        Self::SizeInvalid,
        Self::Unauthorized,
        Self::Denied,
        Self::Unsupported,
        Self::TooManyRequests,
        Self::Unavailable,
    ];

    /// Whether the code is of the specification's closed list, and not ours.
    pub fn is_of_the_specification(self) -> bool {
        self != Self::Unavailable
    }

    /// The word in the JSON body.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
        }
    }

    /// The status that goes with the code unless somebody knows better.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestBlobUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::BAD_GATEWAY,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One error, ready to be told to a client. Messages must never hold a secret or an inner address.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct OciError {
    /// The response's status.
    pub status: StatusCode,
    /// The code in the body.
    pub code: ErrorCode,
    /// For people; one lower-case sentence.
    pub message: Cow<'static, str>,
    /// For machines; unstructured.
    pub detail: Option<Value>,
}

impl OciError {
    /// The `Content-Type` of [`Self::to_json`].
    pub const CONTENT_TYPE: &str = "application/json";

    /// An error with the code's own status.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: code.status(),
            code,
            message: message.into(),
            detail: None,
        }
    }

    /// The same under another status, `504` instead of `502`.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with detail for machines.
    #[must_use]
    pub fn with_detail(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
        self
    }

    /// The body.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            errors: [Entry<'a>; 1],
        }
        #[derive(Serialize)]
        struct Entry<'a> {
            code: ErrorCode,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<&'a Value>,
        }
        let entry = Entry {
            code: self.code,
            message: &self.message,
            detail: self.detail.as_ref(),
        };
        serde_json::to_vec(&Body { errors: [entry] }).expect("strings and values always serialize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_has_the_spec_shape() {
        let error = OciError::new(ErrorCode::BlobUnknown, "blob \"x\" is not here");
        assert_eq!(error.status, StatusCode::NOT_FOUND);
        assert_eq!(
            String::from_utf8(error.to_json()).unwrap(),
            r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob \"x\" is not here"}]}"#
        );
        let detailed = error.with_detail(serde_json::json!({"digest": "sha256:00"}));
        assert!(
            String::from_utf8(detailed.to_json())
                .unwrap()
                .ends_with(r#""detail":{"digest":"sha256:00"}}]}"#)
        );
    }

    #[test]
    fn codes_are_capitals_and_client_errors_except_one() {
        for code in ErrorCode::ALL {
            let text = code.as_str();
            assert!(text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
            let own = code == ErrorCode::Unavailable;
            assert_eq!(code.status().is_client_error(), !own, "{text}");
        }
    }
}
