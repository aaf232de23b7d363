//! Pulling what a supernode asks for, before a client does: as an anonymous client would.

use std::sync::Arc;

use futures_util::StreamExt as _;
use http::{HeaderMap, header};
use oci::{Digest, Reference};
use swarm::Preheat;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::accept::{AcceptClass, any_image};
use crate::access::Body;
use crate::blobs;
use crate::front::{Front, Reader};
use crate::manifests;
use crate::place::Place;
use crate::refusal::Refusal;
use crate::upstream::Credential;

/// Pulled at a time: as many as containerd asks for.
const AT_ONCE: usize = 3;

/// Pulls what comes by `preheats`. Dropping the future gives up what is under way, and says so.
pub(super) async fn run(front: Arc<Front>, preheats: &mut mpsc::Receiver<Preheat>) {
    let mut pulls = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = pulls.join_next() => {}
            preheat = preheats.recv(), if pulls.len() < AT_ONCE => match preheat {
                Some(preheat) => {
                    pulls.spawn(pull(front.clone(), preheat));
                }
                None => break,
            },
        }
    }
}

async fn pull(front: Arc<Front>, preheat: Preheat) {
    let pulled = match (reader(&front, &preheat), preheat.digest().parse()) {
        (Ok(reader), Ok(digest)) if preheat.is_manifest() => {
            let reference = Reference::Digest(digest);
            let size = Box::pin(manifests::bring(&front, &reader, &reference)).await;
            size.map_err(|refusal| refusal.message().to_owned())
        }
        (Ok(reader), Ok(digest)) => blob(&front, &reader, &digest).await,
        (Err(refusal), _) => Err(refusal.message().to_owned()),
        (Ok(_), Err(_)) => Err("not a digest".to_owned()),
    };
    match pulled {
        Ok(bytes) => preheat.done(bytes),
        Err(why) => {
            tracing::info!(
                registry = preheat.registry(),
                repository = preheat.repository(),
                digest = preheat.digest(),
                why,
                "a preheat fails"
            );
            preheat.failed(&why);
        }
    }
}

fn reader(front: &Front, preheat: &Preheat) -> Result<Reader, Refusal> {
    let registry = preheat.registry().parse();
    let registry = registry.map_err(|_| Refusal::unknown_registry())?;
    let repository = preheat.repository().parse();
    let repository = repository.map_err(|_| Refusal::unknown_registry())?;
    let upstream = front.upstreams.get(&registry);
    let headers = any_image();
    let place = Place {
        registry,
        repository,
    };
    Ok(Reader {
        generation: front.generations.of(&place),
        place,
        upstream: upstream.ok_or_else(Refusal::unknown_registry)?,
        credential: Credential::Anonymous,
        accept: headers.get_all(header::ACCEPT).iter().cloned().collect(),
        class: AcceptClass::of(&headers),
        by_ns: false,
    })
}

/// Reads all of it, which touches no page: slices are only places in the file.
async fn blob(front: &Front, reader: &Reader, digest: &Digest) -> Result<u64, String> {
    let answered = Box::pin(blobs::get(front, reader, digest, &HeaderMap::new())).await;
    let answered = answered.map_err(|refusal| refusal.message().to_owned())?;
    let Body::Slices(mut slices, length) = answered.body else {
        return Err("the blob has no bytes".to_owned());
    };
    while let Some(slice) = slices.next().await {
        slice.map_err(|error| error.to_string())?;
    }
    Ok(length)
}
