//! What is to be said on a stream: a bounded queue that merges what belongs together.
//!
//! Invariant: saying never waits. A queue that nobody drains overflows once and is closed then, so
//! that its stream ends instead of growing. Both ends of the wire use it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;

use crate::wire::{NodeSays, PreheatProgress, SupernodeSays, node_says, supernode_says};

/// Entries in one message at most, so that no message is large.
const MERGED_MAX: usize = 1024;

/// Messages that may become one.
pub trait Merge: Sized {
    /// Takes `next` in, which follows directly; gives it back when it must stay apart.
    fn merge(&mut self, next: Self) -> Option<Self>;
}

/// The end that speaks. Clones speak on the same stream.
#[derive(Debug)]
pub struct Outbox<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

/// The end that is sent.
#[derive(Debug)]
pub struct Outgoing<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

/// Nothing more can be said: the queue was full, or its stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is closed, or nobody reads it")]
pub struct Closed;

#[derive(Debug)]
struct Queue<T> {
    /// With the number of words that each was made of.
    messages: VecDeque<(T, usize)>,
    words: usize,
    room: usize,
    closed: bool,
    /// Nothing more is said, but what waits is sent.
    finished: bool,
    waker: Option<Waker>,
}

impl<T> Queue<T> {
    fn close(&mut self) -> Option<Waker> {
        self.closed = true;
        self.messages = VecDeque::new();
        self.waker.take()
    }
}

impl<T: Merge> Outbox<T> {
    /// A queue with room for so many words.
    pub fn new(room: usize) -> (Self, Outgoing<T>) {
        let queue = Arc::new(Mutex::new(Queue {
            messages: VecDeque::new(),
            words: 0,
            room,
            closed: false,
            finished: false,
            waker: None,
        }));
        let outbox = Self {
            queue: queue.clone(),
        };
        (outbox, Outgoing { queue })
    }

    /// Says one thing, in one message with what waits already if the two can be one.
    ///
    /// # Errors
    /// [`Closed`], also for the word that found the queue full and thereby closed it.
    pub fn say(&self, word: T) -> Result<(), Closed> {
        let mut queue = lock(&self.queue);
        if queue.closed || queue.finished {
            return Err(Closed);
        }
        if queue.words >= queue.room {
            let waker = queue.close();
            drop(queue);
            wake(waker);
            return Err(Closed);
        }
        let rest = match queue.messages.back_mut() {
            Some((last, words)) if *words < MERGED_MAX => match last.merge(word) {
                None => {
                    *words += 1;
                    None
                }
                apart => apart,
            },
            _ => Some(word),
        };
        if let Some(word) = rest {
            queue.messages.push_back((word, 1));
        }
        queue.words += 1;
        let waker = queue.waker.take();
        drop(queue);
        wake(waker);
        Ok(())
    }
}

impl<T> Outbox<T> {
    /// Ends the stream; what waits is dropped.
    pub fn close(&self) {
        let waker = lock(&self.queue).close();
        wake(waker);
    }

    /// Ends the stream when all that waits is sent.
    pub fn finish(&self) {
        let mut queue = lock(&self.queue);
        queue.finished = true;
        let waker = queue.waker.take();
        drop(queue);
        wake(waker);
    }

    /// Whether the stream is closed: what waited is dropped.
    pub fn is_closed(&self) -> bool {
        lock(&self.queue).closed
    }
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<T> Stream for Outgoing<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut queue = lock(&self.queue);
        if let Some((message, words)) = queue.messages.pop_front() {
            queue.words -= words;
            return Poll::Ready(Some(message));
        }
        if queue.closed || queue.finished {
            return Poll::Ready(None);
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Outgoing<T> {
    fn drop(&mut self) {
        lock(&self.queue).close();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lock<T>(queue: &Mutex<Queue<T>>) -> MutexGuard<'_, Queue<T>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Merge for NodeSays {
    fn merge(&mut self, next: Self) -> Option<Self> {
        use node_says::Word;
        match (&mut self.word, next.word) {
            (Some(Word::Reports(reports)), Some(Word::Reports(next))) => {
                reports.list.extend(next.list);
                None
            }
            (Some(Word::Alive(_)), Some(Word::Alive(_))) => None,
            (_, word) => Some(Self { word }),
        }
    }
}

impl Merge for SupernodeSays {
    fn merge(&mut self, next: Self) -> Option<Self> {
        use supernode_says::Word;
        match (&mut self.word, next.word) {
            (Some(Word::Instructions(all)), Some(Word::Instructions(next)))
                if all.flight == next.flight =>
            {
                all.list.extend(next.list);
                None
            }
            (Some(Word::Pieces(all)), Some(Word::Pieces(next)))
                if all.flight == next.flight
                    && u64::from(all.first) + (all.digests.len() / 32) as u64
                        == u64::from(next.first) =>
            {
                all.digests.extend_from_slice(&next.digests);
                None
            }
            (Some(Word::Peers(all)), Some(Word::Peers(next))) => {
                all.peers.extend(next.peers);
                None
            }
            (Some(Word::Alive(_)), Some(Word::Alive(_))) => None,
            (_, word) => Some(Self { word }),
        }
    }
}

/// A node's newest state is all that counts.
impl Merge for PreheatProgress {
    fn merge(&mut self, next: Self) -> Option<Self> {
        if self.node != next.node {
            return Some(next);
        }
        *self = next;
        None
    }
}

impl From<node_says::Word> for NodeSays {
    fn from(word: node_says::Word) -> Self {
        Self { word: Some(word) }
    }
}

impl From<supernode_says::Word> for SupernodeSays {
    fn from(word: supernode_says::Word) -> Self {
        Self { word: Some(word) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;
    use crate::wire::{Alive, Instruction, Instructions, PieceDigests, Report, Reports};

    fn got(piece: u32) -> NodeSays {
        let report = Report {
            piece,
            ..Report::default()
        };
        let list = vec![report];
        node_says::Word::Reports(Reports { list }).into()
    }

    #[tokio::test]
    async fn reports_that_wait_become_one_message() {
        let (outbox, mut outgoing) = Outbox::new(10);
        for piece in 0..3 {
            outbox.say(got(piece)).unwrap();
        }
        outbox.say(node_says::Word::Alive(Alive {}).into()).unwrap();
        let Some(node_says::Word::Reports(first)) = outgoing.next().await.unwrap().word else {
            panic!("not reports");
        };
        let pieces: Vec<u32> = first.list.iter().map(|report| report.piece).collect();
        assert_eq!(pieces, [0, 1, 2]);
        let alive = outgoing.next().await.unwrap().word;
        assert!(matches!(alive, Some(node_says::Word::Alive(_))));
    }

    #[tokio::test]
    async fn an_outbox_that_nobody_drains_is_closed() {
        let (outbox, mut outgoing) = Outbox::new(3);
        for piece in 0..3 {
            assert_eq!(outbox.say(got(piece)), Ok(()));
        }
        assert_eq!(outbox.say(got(3)), Err(Closed));
        assert!(outbox.is_closed());
        assert!(outgoing.next().await.is_none());
        drop(outgoing);
        assert_eq!(outbox.say(got(4)), Err(Closed));
    }

    #[tokio::test]
    async fn a_drained_outbox_has_room_again() {
        let (outbox, mut outgoing) = Outbox::new(2);
        for piece in 0..10 {
            outbox.say(got(piece)).unwrap();
            outgoing.next().await.unwrap();
        }
        drop(outgoing);
        assert_eq!(outbox.say(got(10)), Err(Closed));
    }

    #[tokio::test]
    async fn a_finished_outbox_still_sends_what_waits() {
        let (outbox, mut outgoing) = Outbox::new(2);
        outbox.say(got(0)).unwrap();
        outbox.finish();
        assert_eq!(outbox.say(got(1)), Err(Closed));
        assert!(outgoing.next().await.is_some());
        assert!(outgoing.next().await.is_none());
    }

    #[test]
    fn only_what_belongs_together_is_merged() {
        let instructions = |flight| {
            let list = vec![Instruction::default()];
            SupernodeSays::from(supernode_says::Word::Instructions(Instructions {
                flight,
                list,
            }))
        };
        let pieces = |first, count: usize| {
            SupernodeSays::from(supernode_says::Word::Pieces(PieceDigests {
                flight: 1,
                first,
                digests: vec![0; 32 * count],
            }))
        };
        assert!(instructions(1).merge(instructions(1)).is_none());
        assert!(instructions(1).merge(instructions(2)).is_some());
        assert!(pieces(0, 2).merge(pieces(2, 1)).is_none());
        assert!(pieces(0, 2).merge(pieces(3, 1)).is_some());
        assert!(pieces(0, 2).merge(instructions(1)).is_some());
    }
}
