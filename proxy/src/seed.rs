//! What a supernode reads through its node, to share it: only what upstream gives to anybody.
//!
//! Invariant: nothing read here was had with a client's credential or with an account of the
//! operator. Deliberately not here: what becomes of the bytes, and who asks.

mod image;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use http::header;
use oci::{Digest, Registry, Repository};
use swarm::{BlobReader, Engine};

use crate::accept::{AcceptClass, any_image};
use crate::blobs::{self, NotPublic};
use crate::front::{Front, Reader};
use crate::place::Place;
use crate::upstream::Credential;

pub use image::{ImageParts, ImageRefusal, Part};

/// A node's way to public blobs. Cheap to clone.
#[derive(Clone)]
pub struct Seed {
    front: Arc<Front>,
}

/// Why a blob is not shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedRefusal {
    /// The registry is not in the table, or upstream does not give the blob to anybody there.
    #[error("{0}")]
    NotShared(&'static str),
    /// Upstream cannot be asked now, or this node fails.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl Seed {
    pub(crate) fn new(front: Arc<Front>) -> Self {
        Self { front }
    }

    /// The engine through which it reads.
    pub fn engine(&self) -> &Engine {
        &self.front.engine
    }

    /// The place that a node means, if its registry is known here.
    ///
    /// # Errors
    /// [`SeedRefusal::NotShared`].
    pub fn place(&self, registry: &str, repository: &str) -> Result<Place, SeedRefusal> {
        let unknown = SeedRefusal::NotShared("the supernode does not know the registry");
        let registry: Registry = registry.parse().map_err(|_| unknown)?;
        if self.front.upstreams.get(&registry).is_none() {
            return Err(unknown);
        }
        let wrong = |_| SeedRefusal::NotShared("not a repository's name");
        let repository: Repository = repository.parse().map_err(wrong)?;
        Ok(Place {
            registry,
            repository,
        })
    }

    /// Reads the whole blob, from the store or from upstream, after upstream has said that anybody
    /// may. That is remembered for a grant's life. Dropping the future or the reader leaves the flight.
    ///
    /// # Errors
    /// See [`SeedRefusal`].
    pub async fn read_public(
        &self,
        place: &Place,
        digest: &Digest,
    ) -> Result<BlobReader, SeedRefusal> {
        let reader = self.reader(place)?;
        let read = blobs::read_public(&self.front, &reader, digest);
        self.within_head(read).await
    }

    /// Asks whether anybody may read the blob, as above, and does not read it.
    ///
    /// # Errors
    /// See [`SeedRefusal`].
    pub async fn confirm_public(&self, place: &Place, digest: &Digest) -> Result<(), SeedRefusal> {
        let reader = self.reader(place)?;
        let confirm = blobs::confirm_public(&self.front, &reader, digest);
        self.within_head(confirm).await
    }

    async fn within_head<T>(
        &self,
        asking: impl Future<Output = Result<T, NotPublic>>,
    ) -> Result<T, SeedRefusal> {
        match tokio::time::timeout(self.front.limits.head, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(NotPublic::Denied)) => Err(SeedRefusal::NotShared(
                "the registry does not give it to anybody",
            )),
            Ok(Err(NotPublic::Unknown)) | Err(_) => {
                Err(SeedRefusal::Unavailable("the registry cannot be asked now"))
            }
        }
    }

    fn reader(&self, place: &Place) -> Result<Reader, SeedRefusal> {
        let upstream = self.front.upstreams.get(&place.registry);
        let unknown = SeedRefusal::NotShared("the supernode does not know the registry");
        let headers = any_image();
        Ok(Reader {
            place: place.clone(),
            upstream: upstream.ok_or(unknown)?,
            credential: Credential::Nobody,
            accept: headers.get_all(header::ACCEPT).iter().cloned().collect(),
            class: AcceptClass::of(&headers),
            by_ns: false,
            generation: self.front.generations.of(place),
        })
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed").finish_non_exhaustive()
    }
}
