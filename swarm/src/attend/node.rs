//! What all links of a node share: who it is, what it holds, which peers it knows.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use oci::Digest;
use tokio::sync::{mpsc, watch};

use super::{AttendOptions, Preheat};
use crate::source::Origin;
use crate::tracker::{Peer, PeerId};
use crate::wire::{self, Holding, Holdings, node_says};

/// Blobs in one message when all that is held is announced.
const HOLDINGS_MAX: usize = 1000;
/// Peers remembered before the ones that nobody uses any more are dropped.
const PEERS_SWEEP: usize = 1024;

pub(super) struct Node {
    pub(super) me: PeerId,
    pub(super) options: AttendOptions,
    pub(super) preheats: mpsc::Sender<Preheat>,
    /// Counts every change of a link's state.
    pub(super) changes: watch::Sender<u64>,
    held: Mutex<HashMap<Digest, u64>>,
    peers: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    peers: HashMap<(PeerId, String), Weak<dyn Peer>>,
    sweep_at: usize,
}

impl Node {
    pub(super) fn new(options: AttendOptions, preheats: mpsc::Sender<Preheat>) -> Self {
        Self {
            me: PeerId(format!("{:016x}{:016x}", random(), random()).into()),
            options,
            preheats,
            changes: watch::Sender::new(0),
            held: Mutex::default(),
            peers: Mutex::default(),
        }
    }

    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn hello(&self) -> node_says::Word {
        let options = &self.options;
        node_says::Word::Hello(wire::Hello {
            node: self.me.to_string(),
            name: options.name.clone(),
            advertise: options.advertise.clone().unwrap_or_default(),
            port: u32::from(options.peer_port),
            zone: options.zone.clone(),
            rack: options.rack.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// Notes that a blob is held; `false` if that was known.
    pub(super) fn holds(&self, digest: &Digest, total: u64) -> bool {
        lock(&self.held).insert(*digest, total) != Some(total)
    }

    /// Notes that it is not; `false` if that was known.
    pub(super) fn lacks(&self, digest: &Digest) -> bool {
        lock(&self.held).remove(digest).is_some()
    }

    /// All that is held, as messages.
    pub(super) fn holdings(&self) -> Vec<node_says::Word> {
        let held = lock(&self.held);
        let all: Vec<Holding> = held
            .iter()
            .map(|(digest, total)| holding(digest, *total))
            .collect();
        drop(held);
        let parts = all.chunks(HOLDINGS_MAX);
        let messages = parts.map(|part| {
            node_says::Word::Held(Holdings {
                list: part.to_vec(),
            })
        });
        messages.collect()
    }

    /// The peer of that name and address: the same one as before while somebody uses it.
    pub(super) fn peer(&self, id: PeerId, origin: Origin, address: &str) -> Arc<dyn Peer> {
        let mut known = lock(&self.peers);
        let key = (id, address.to_owned());
        if let Some(peer) = known.peers.get(&key).and_then(Weak::upgrade) {
            return peer;
        }
        let peer = self.options.peers.peer(key.0.clone(), origin, address);
        known.peers.insert(key, Arc::downgrade(&peer));
        if known.peers.len() > known.sweep_at.max(PEERS_SWEEP) {
            known.peers.retain(|_, peer| peer.strong_count() > 0);
            known.sweep_at = known.peers.len() * 2;
        }
        peer
    }
}

pub(super) fn holding(digest: &Digest, total: u64) -> Holding {
    Holding {
        digest: digest.to_string(),
        total,
    }
}

/// A number that another process does not guess or repeat; the standard library keys its hashes so.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("me", &self.me)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
