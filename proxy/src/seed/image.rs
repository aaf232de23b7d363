//! What an image consists of, for whoever brings it to nodes before it is pulled.

use std::collections::{HashSet, VecDeque};

use http::StatusCode;
use oci::manifest::children;
use oci::platform::choose;
use oci::{Digest, ImageName, Platform, Reference};

use super::Seed;
use crate::front::Reader;
use crate::manifests::{self, Document};
use crate::place::Place;
use crate::refusal::Refusal;

/// Manifests of one image at most: an index for every platform there is, twice.
const MANIFESTS_MAX: usize = 256;
/// Blobs of one image at most.
const BLOBS_MAX: usize = 8192;

/// An image, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageParts {
    /// Where it is pulled from.
    pub place: Place,
    /// Its manifests, an index before what it names.
    pub manifests: Vec<Part>,
    /// Configs and layers, each once.
    pub blobs: Vec<Part>,
}

/// A manifest or a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes; as the manifest says, for a blob.
    pub size: u64,
}

/// Why an image cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefusal {
    /// The registry does not have it, or is not in the table.
    #[error("{0}")]
    Unknown(String),
    /// The registry does not give it to anybody.
    #[error("{0}")]
    NotPublic(String),
    /// The registry cannot be asked now.
    #[error("{0}")]
    Unavailable(String),
    /// It is not what was asked for: no image of that platform, or none that can be read.
    #[error("{0}")]
    Unfit(String),
}

impl Seed {
    /// Resolves `name` with nobody's rights and reads its manifests: those of `platform`, or all.
    ///
    /// # Errors
    /// See [`ImageRefusal`].
    pub async fn image(
        &self,
        name: &ImageName,
        platform: Option<&Platform>,
    ) -> Result<ImageParts, ImageRefusal> {
        let unknown = |refusal: super::SeedRefusal| ImageRefusal::Unknown(refusal.to_string());
        let place = self
            .place(name.registry.as_str(), name.repository.as_str())
            .map_err(unknown)?;
        let reader = self.reader(&place).map_err(unknown)?;
        let mut found = Found::default();
        found.wanted.push_back(name.reference());
        while let Some(reference) = found.wanted.pop_front() {
            let document = self.document(&reader, &reference).await?;
            found.take(&document, platform)?;
        }
        Ok(ImageParts {
            place,
            manifests: found.manifests,
            blobs: found.blobs,
        })
    }

    async fn document(
        &self,
        reader: &Reader,
        reference: &Reference,
    ) -> Result<Document, ImageRefusal> {
        let open = Box::pin(manifests::open(&self.front, reader, reference));
        open.await.map_err(|refusal| refused(&refusal))
    }
}

/// What is known so far.
#[derive(Default)]
struct Found {
    wanted: VecDeque<Reference>,
    seen: HashSet<Digest>,
    manifests: Vec<Part>,
    blobs: Vec<Part>,
}

impl Found {
    fn take(
        &mut self,
        document: &Document,
        platform: Option<&Platform>,
    ) -> Result<(), ImageRefusal> {
        let media_type = document.media_type.to_str().unwrap_or_default();
        let named = children(&document.bytes, media_type)
            .map_err(|error| ImageRefusal::Unfit(error.to_string()))?;
        self.seen.insert(document.digest);
        self.manifests.push(Part {
            digest: document.digest,
            size: document.bytes.len() as u64,
        });
        let chosen = match platform {
            Some(platform) if !named.manifests.is_empty() => {
                let fits = choose(&document.bytes, platform).map(|(digest, _)| digest);
                let none = || ImageRefusal::Unfit(format!("it has no image for {platform}"));
                Some(fits.ok_or_else(none)?)
            }
            _ => None,
        };
        let manifests = named.manifests.iter().map(|one| one.digest);
        for digest in manifests.filter(|one| chosen.is_none_or(|chosen| chosen == *one)) {
            if self.seen.insert(digest) {
                self.wanted.push_back(Reference::Digest(digest));
            }
        }
        let blobs = named.config.iter().chain(&named.layers);
        for blob in blobs.filter(|blob| manifests::is_kept_by_registries(blob)) {
            if self.seen.insert(blob.digest) {
                self.blobs.push(Part {
                    digest: blob.digest,
                    size: blob.size,
                });
            }
        }
        let manifests = self.manifests.len() + self.wanted.len();
        if manifests > MANIFESTS_MAX || self.blobs.len() > BLOBS_MAX {
            return Err(ImageRefusal::Unfit("it has too many parts".to_owned()));
        }
        Ok(())
    }
}

fn refused(refusal: &Refusal) -> ImageRefusal {
    let why = refusal.message().to_owned();
    match refusal.status() {
        StatusCode::NOT_FOUND => ImageRefusal::Unknown(why),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ImageRefusal::NotPublic(why),
        _ => ImageRefusal::Unavailable(why),
    }
}
