//! Images that nodes are asked to pull before a client does.
//!
//! Each node is sent every part, and says what became of it. How the bytes travel is no affair of
//! this: a node pulls as for a client, and so takes part in the distribution.

use std::collections::{BTreeMap, HashMap, HashSet};

use oci::Digest;
use proxy::ImageParts;
use swarm::wire::{Fetch, Fetched, PreheatProgress, supernode_says::Word};

use super::{Book, Turn};
use crate::scheduler::NodeKey;

/// Parts that a node is asked for ahead of what it has answered: more than it pulls at once.
const AHEAD: usize = 32;

/// One image on its way to some nodes.
#[derive(Debug)]
pub(super) struct Preheating {
    image: ImageParts,
    sizes: HashMap<Digest, u64>,
    nodes: BTreeMap<NodeKey, Part>,
}

/// One node's part in it.
#[derive(Debug)]
struct Part {
    /// How many parts it was asked for.
    asked: usize,
    left: HashSet<Digest>,
    said: PreheatProgress,
}

impl Book {
    /// Sends an image to so many nodes, 0 for all; its number, by which the turn tells how far it is.
    pub(crate) fn preheat(&mut self, image: ImageParts, nodes: u32, turn: &mut Turn) -> u64 {
        self.tasks += 1;
        let task = self.tasks;
        let parts = image.manifests.iter().chain(&image.blobs);
        let sizes: HashMap<Digest, u64> = parts.map(|part| (part.digest, part.size)).collect();
        let chosen = self.choose(&image, nodes);
        let mut preheating = Preheating {
            nodes: BTreeMap::new(),
            image,
            sizes,
        };
        for (node, name) in chosen {
            let first = preheating.orders(0, task).take(AHEAD);
            turn.words.extend(first.map(|word| (node, word)));
            let part = Part {
                asked: AHEAD,
                left: preheating.sizes.keys().copied().collect(),
                said: PreheatProgress {
                    node: name,
                    blobs_all: u32::try_from(preheating.sizes.len()).unwrap_or(u32::MAX),
                    bytes_all: preheating.sizes.values().sum(),
                    ..PreheatProgress::default()
                },
            };
            turn.progress.push((task, part.said.clone()));
            preheating.nodes.insert(node, part);
        }
        if preheating.nodes.is_empty() {
            turn.finished.push(task);
        } else {
            self.preheats.insert(task, preheating);
        }
        task
    }

    /// Nobody wants to know any more.
    pub(crate) fn forget_preheat(&mut self, task: u64) {
        self.preheats.remove(&task);
    }

    /// The nodes, with names that differ: a good part of them in an order that differs by image.
    fn choose(&self, image: &ImageParts, count: u32) -> Vec<(NodeKey, String)> {
        let giving = self.nodes.iter().filter(|(_, node)| !node.silent);
        let mut nodes: Vec<_> = giving.collect();
        if count > 0 {
            let first = image.manifests.first().map(|part| part.digest);
            let weigh = |id: &str| first.map(|digest| swarm::attend::weight(&digest, id));
            nodes.sort_by_cached_key(|(_, node)| std::cmp::Reverse(weigh(&node.id)));
            nodes.truncate(count as usize);
        }
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (_, node) in &nodes {
            *names.entry(&node.name).or_default() += 1;
        }
        let named = nodes.iter().map(|(number, node)| {
            let name = match names.get(node.name.as_str()) {
                Some(1) => node.name.clone(),
                _ => format!("{} at {}", node.name, node.address),
            };
            (NodeKey(*number), name)
        });
        named.collect()
    }

    /// A node has pulled a part, or has failed to.
    pub(super) fn fetched(&mut self, node: NodeKey, fetched: &Fetched, turn: &mut Turn) {
        let Ok(digest) = fetched.digest.parse::<Digest>() else {
            return;
        };
        let Some(preheating) = self.preheats.get_mut(&fetched.task) else {
            return;
        };
        let size = preheating.sizes.get(&digest).copied().unwrap_or_default();
        let Some(part) = preheating.nodes.get_mut(&node) else {
            return;
        };
        if !part.left.remove(&digest) {
            return;
        }
        if fetched.error.is_empty() {
            part.said.blobs_done += 1;
            part.said.bytes_done += size;
        } else if part.said.error.is_empty() {
            part.said.error = format!("{}: {}", digest.short(), fetched.error);
        }
        let asked = part.asked;
        part.asked += 1;
        part.said.finished = part.left.is_empty() && part.said.error.is_empty();
        turn.progress.push((fetched.task, part.said.clone()));
        let next = preheating.orders(asked, fetched.task).next();
        turn.words.extend(next.map(|word| (node, word)));
        self.finish(fetched.task, turn);
    }

    /// A node is gone: what it has not pulled will not be.
    pub(super) fn leaves_preheats(&mut self, node: NodeKey, turn: &mut Turn) {
        let tasks: Vec<u64> = self.preheats.keys().copied().collect();
        for task in tasks {
            let preheating = self.preheats.get_mut(&task);
            if let Some(part) = preheating.and_then(|all| all.nodes.get_mut(&node))
                && !part.left.is_empty()
            {
                part.left.clear();
                part.said.error = "the node is gone".to_owned();
                turn.progress.push((task, part.said.clone()));
                self.finish(task, turn);
            }
        }
    }

    fn finish(&mut self, task: u64, turn: &mut Turn) {
        let nodes = self.preheats.get(&task).map(|all| all.nodes.values());
        if nodes.is_some_and(|mut nodes| nodes.all(|part| part.left.is_empty())) {
            self.preheats.remove(&task);
            turn.finished.push(task);
        }
    }
}

impl Preheating {
    /// The parts from one on. Manifests first: they are small, and clients ask for them first.
    fn orders(&self, from: usize, task: u64) -> impl Iterator<Item = Word> {
        let image = &self.image;
        let manifests = image.manifests.iter().map(|part| (part, true));
        let blobs = image.blobs.iter().map(|part| (part, false));
        manifests
            .chain(blobs)
            .skip(from)
            .map(move |(part, manifest)| {
                Word::Fetch(Fetch {
                    registry: image.place.registry.to_string(),
                    repository: image.place.repository.to_string(),
                    digest: part.digest.to_string(),
                    manifest,
                    task,
                })
            })
    }
}
