//! Uploads of blobs: monolithic, in chunks, streamed and mounted (distribution-spec, "Pushing blobs").

use bytes::Bytes;

use super::answer::error;
use super::content::{Shelf, fits};
use super::fault::Reply;
use super::habits::{Habits, Locations};
use super::record::{Kind, Seen};

/// A blob that is being uploaded.
pub(super) struct Session {
    repository: String,
    bytes: Vec<u8>,
}

/// Answers whatever concerns an upload; `url` is the origin's own. `may_mount` tells whether the
/// client may read the repository that it names as a source.
pub(super) fn answer(
    shelf: &mut Shelf,
    habits: &Habits,
    url: &str,
    seen: &Seen,
    may_mount: bool,
) -> Reply {
    let mut uploads = Uploads {
        shelf,
        habits,
        url,
        seen,
    };
    let session = match &seen.kind {
        Kind::Upload(session) if session.is_empty() => {
            return match seen.method.as_str() {
                "POST" => uploads.begin(may_mount),
                _ => error(405, "UNSUPPORTED"),
            };
        }
        Kind::Upload(session) | Kind::Storage(session) => session.clone(),
        _ => return error(404, "BLOB_UPLOAD_UNKNOWN"),
    };
    if !uploads.knows(&session) {
        return error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    match seen.method.as_str() {
        "GET" => uploads.progress(204, &session),
        "PATCH" => uploads.chunk(&session),
        "PUT" => uploads.finish(&session),
        "DELETE" => {
            uploads.shelf.sessions.remove(&session);
            Reply::new(204)
        }
        _ => error(405, "UNSUPPORTED"),
    }
}

struct Uploads<'a> {
    shelf: &'a mut Shelf,
    habits: &'a Habits,
    url: &'a str,
    seen: &'a Seen,
}

impl Uploads<'_> {
    fn begin(&mut self, may_mount: bool) -> Reply {
        let seen = self.seen;
        if let Some(algorithm) = seen.parameter("digest-algorithm")
            && !matches!(algorithm.as_str(), "sha256" | "sha512")
        {
            return error(400, "DIGEST_INVALID");
        }
        if let Some(digest) = seen.parameter("mount")
            && may_mount
            && self.habits.mounts
            && let Some(bytes) = self.mountable(&digest)
        {
            self.shelf.blob(&seen.repository, &digest, bytes);
            return made(&seen.repository, &digest);
        }
        if let Some(digest) = seen.parameter("digest") {
            return self.keep(&digest, seen.whole_body());
        }
        let id = self.shelf.next_session();
        let session = Session {
            repository: seen.repository.clone(),
            bytes: Vec::new(),
        };
        self.shelf.sessions.insert(id.clone(), session);
        let reply = self.progress(202, &id);
        match self.habits.chunk_min {
            Some(bytes) => reply.header("OCI-Chunk-Min-Length", &bytes.to_string()),
            None => reply,
        }
    }

    /// The blob of the repository that `from` names, else of any.
    fn mountable(&self, digest: &str) -> Option<Bytes> {
        match self.seen.parameter("from") {
            Some(from) => self.shelf.find_blob(&from, digest),
            None => self.shelf.find_blob_anywhere(digest),
        }
    }

    /// Whether there is such an upload, and the client has kept the query that goes with it.
    fn knows(&self, id: &str) -> bool {
        let (name, secret) = secret(&self.seen.kind, id);
        let told = self.seen.parameter(name) == Some(secret);
        let session = self.shelf.sessions.get(id).filter(|_| told);
        let at_storage = matches!(self.seen.kind, Kind::Storage(_));
        session.is_some_and(|session| at_storage || session.repository == self.seen.repository)
    }

    fn chunk(&mut self, id: &str) -> Reply {
        match self.append(id) {
            Ok(()) => self.progress(202, id),
            Err(reply) => reply,
        }
    }

    /// Appends the body, which must begin where the upload stands if it says where it begins.
    fn append(&mut self, id: &str) -> Result<(), Reply> {
        let body = self.seen.whole_body();
        let offset = self.shelf.sessions[id].bytes.len();
        let in_order = match self.seen.header("content-range") {
            None => true,
            Some(text) => {
                let range = text.split_once('-').and_then(|(first, last)| {
                    Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
                });
                range.is_some_and(|(first, last)| {
                    first == offset && last.checked_add(1) == Some(offset + body.len())
                })
            }
        };
        if !in_order {
            return Err(self.progress(416, id));
        }
        let session = self.shelf.sessions.get_mut(id);
        session
            .expect("looked up before")
            .bytes
            .extend_from_slice(&body);
        Ok(())
    }

    fn finish(&mut self, id: &str) -> Reply {
        let Some(digest) = self.seen.parameter("digest") else {
            return error(400, "DIGEST_INVALID");
        };
        if !self.seen.body.is_empty()
            && let Err(reply) = self.append(id)
        {
            return reply;
        }
        let Some(session) = self.shelf.sessions.remove(id) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        self.keep_in(&session.repository, &digest, session.bytes.into())
    }

    fn keep(&mut self, digest: &str, bytes: Bytes) -> Reply {
        self.keep_in(&self.seen.repository, digest, bytes)
    }

    fn keep_in(&mut self, repository: &str, digest: &str, bytes: Bytes) -> Reply {
        if !fits(digest, &bytes) {
            return error(400, "DIGEST_INVALID");
        }
        self.shelf.blob(repository, digest, bytes);
        made(repository, digest)
    }

    /// How far an upload is, and where it goes on.
    fn progress(&self, status: u16, id: &str) -> Reply {
        let session = &self.shelf.sessions[id];
        let last = session.bytes.len().saturating_sub(1);
        let kind = match self.habits.locations {
            Locations::Storage(_) => Kind::Storage(id.to_owned()),
            _ => Kind::Upload(id.to_owned()),
        };
        let (name, secret) = secret(&kind, id);
        let path = format!(
            "/v2/{}/blobs/uploads/{id}?{name}={secret}",
            session.repository
        );
        let location = match &self.habits.locations {
            Locations::Relative => path,
            Locations::Absolute => format!("{}{path}", self.url),
            Locations::Storage(base) => format!("{base}/storage/{id}?{name}={secret}"),
        };
        let reply = match status {
            416 => error(416, "BLOB_UPLOAD_INVALID"),
            status => Reply::new(status),
        };
        reply
            .status(status)
            .header("Location", &location)
            .header("Range", &format!("0-{last}"))
            .header("Docker-Upload-UUID", id)
    }
}

/// The query without which an upload is not found.
fn secret(kind: &Kind, id: &str) -> (&'static str, String) {
    match kind {
        Kind::Storage(_) => ("signature", format!("of-{id}")),
        _ => ("_state", format!("state-of-{id}")),
    }
}

fn made(repository: &str, digest: &str) -> Reply {
    Reply::new(201)
        .header("Location", &format!("/v2/{repository}/blobs/{digest}"))
        .header("Docker-Content-Digest", digest)
}
