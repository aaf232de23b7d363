//! The bytes of a pull: a few blobs at a time, each checked, into the layout or away.
//!
//! Invariant: all tasks end with the call; the first failure ends the others. What was whole by
//! then stays.

use std::sync::Arc;

use futures_util::StreamExt as _;
use oci::Hasher;
use tokio::task::{JoinSet, block_in_place};

use crate::failure::Failure;
use crate::pull::board::Board;
use crate::pull::front::Front;
use crate::pull::layout::Layout;
use crate::pull::plan::Part;

/// As many as containerd and dockerd ask for.
const AT_ONCE: usize = 3;
/// The header in which a node says that it held a blob before it was asked.
const SOURCE: &str = "darner-source";

/// What each blob needs.
#[derive(Clone)]
pub(crate) struct Fetching {
    /// Who is asked.
    pub(crate) front: Arc<Front>,
    /// Where bytes go; `None`: nowhere, the node keeps them.
    pub(crate) layout: Option<Layout>,
    /// Who is told.
    pub(crate) board: Arc<Board>,
}

impl Fetching {
    /// Fetches all of them. Must run on a runtime of several threads.
    pub(crate) async fn all(&self, parts: &[Part]) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        for (index, part) in parts.iter().enumerate() {
            if tasks.len() == AT_ONCE {
                joined(&mut tasks).await?;
            }
            let (fetching, part) = (self.clone(), part.clone());
            tasks.spawn(async move { fetching.one(index, &part).await });
        }
        while !tasks.is_empty() {
            joined(&mut tasks).await?;
        }
        Ok(())
    }

    async fn one(&self, index: usize, part: &Part) -> Result<(), Failure> {
        let digest = &part.digest;
        if let Some(layout) = &self.layout
            && let Some(size) = block_in_place(|| layout.has(digest, part.size))?
        {
            self.board.already(index, size);
            return Ok(());
        }
        let mut response = self.front.blob(digest).await?;
        let held = response.headers.get(SOURCE).is_some_and(|by| by == "store");
        let length = response.body.length();
        if let (Some(told), Some(named)) = (length, part.size)
            && told != named
        {
            let what = format!(
                "{} {} has {told} bytes, and its manifest says {named}",
                part.kind.name(),
                digest.short()
            );
            return Err(Failure::new(what).hint("the image is broken at its registry"));
        }
        self.board.begin(index, length, held);
        let mut incoming = match &self.layout {
            Some(layout) => Some(block_in_place(|| layout.incoming(digest))?),
            None => None,
        };
        let mut hasher = Hasher::new(digest.algorithm());
        while let Some(frame) = response.body.next().await {
            let frame = frame.map_err(|error| self.front.lost(&error))?;
            let written = block_in_place(|| {
                hasher.update(&frame);
                incoming.as_mut().map_or(Ok(()), |file| file.write(&frame))
            });
            self.fine(written)?;
            self.board.add(index, frame.len() as u64);
        }
        if hasher.finish() != *digest {
            let what = format!("what came for {} has another digest", digest.short());
            return Err(Failure::new(what).hint("this is a fault in darner: please report it"));
        }
        let kept = block_in_place(|| incoming.as_mut().map_or(Ok(()), |file| file.keep()));
        self.fine(kept)?;
        self.board.end(index).await;
        Ok(())
    }

    fn fine(&self, written: std::io::Result<()>) -> Result<(), Failure> {
        match (written, &self.layout) {
            (Err(error), Some(layout)) => Err(layout.failed(&error)),
            _ => Ok(()),
        }
    }
}

async fn joined(tasks: &mut JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    match tasks.join_next().await {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(failure))) => Err(failure),
        Some(Err(error)) => Err(Failure::new(format!("a blob's task ended: {error}"))
            .hint("this is a fault in darner: please report it")),
    }
}
