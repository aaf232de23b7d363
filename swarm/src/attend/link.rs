//! The link to one supernode: dialled, held while it speaks, dialled again when it does not.
//!
//! Invariant: whatever ends a stream (a break, silence, shutdown, a panic) ends its session, and
//! with it every membership. Silence is counted in ticks of our own clock: when this process gets no
//! processor for a while, what waits in the socket is read before anybody is called silent.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::address::{self, Verdict};
use super::node::{Node, random};
use super::outbox::{Outbox, Outgoing};
use super::session::{SEED, Session};
use super::{Preheat, SupernodeStatus};
use crate::source::Origin;
use crate::tracker::PeerId;
use crate::wire::swarm_client::SwarmClient;
use crate::wire::{Alive, NodeSays, SupernodeSays, Welcome, node_says, supernode_says};

/// How often each side shows that it lives.
const ALIVE_EVERY: Duration = Duration::from_millis(250);
/// So many ticks without a word are silence: 1 s at the latest.
const SILENT_TICKS: u32 = 3;
/// How long dialling may take.
const DIAL: Duration = Duration::from_secs(3);
/// How long the answer to the dial may take, and then the first word.
const WELCOME: Duration = Duration::from_secs(2);
/// The first pause before dialling again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Words that wait to be sent. A supernode that takes none of them for so long is lost anyway.
const OUTBOX: usize = 1 << 14;
/// Bytes in flight towards us: what a supernode says in a round trip.
const WINDOW: u32 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    node: Arc<Node>,
    address: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    session: Option<Arc<Session>>,
    status: SupernodeStatus,
}

/// Why a stream ended, for people.
type Why = String;

impl Link {
    pub(super) fn new(node: Arc<Node>, address: String) -> Self {
        let state = State {
            session: None,
            status: SupernodeStatus::new(address.clone()),
        };
        Self {
            node,
            address,
            state: Mutex::new(state),
        }
    }

    /// The session, while the supernode lives.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.lock().session.clone()
    }

    pub(super) fn status(&self) -> SupernodeStatus {
        let state = self.lock();
        let mut status = state.status.clone();
        status.nodes = state.session.as_ref().map_or(0, |session| session.peers());
        status
    }

    /// Holds the link until `shutdown`.
    pub(super) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut pause = PAUSE.0;
        loop {
            let why = tokio::select! {
                () = shutdown.cancelled() => return,
                why = self.attend() => why,
            };
            let was_live = self.note_lost(why);
            if was_live {
                pause = PAUSE.0;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(jittered(pause)) => {}
            }
            pause = PAUSE.1.min(pause * 2);
        }
    }

    /// Whether it had ever spoken on this stream.
    fn note_lost(&self, why: Why) -> bool {
        let mut state = self.lock();
        let was_live = std::mem::replace(&mut state.status.live, false);
        let news = was_live || state.status.why.is_empty();
        state.status.why.clone_from(&why);
        drop(state);
        if news {
            tracing::warn!(supernode = self.address, why, "a supernode is away");
        }
        self.node.changed();
        was_live
    }

    /// One stream from dialling to its end.
    async fn attend(&self) -> Why {
        let (outbox, outgoing) = Outbox::new(OUTBOX);
        let _ = outbox.say(self.node.hello().into());
        let (mut inbound, welcome) = match self.dial(outgoing).await {
            Ok(answered) => answered,
            Err(why) => return why,
        };
        let session = Session::new(outbox, welcome.supernode.clone());
        let session = Arc::new(session);
        // From here on every way out ends the session.
        let attended = Attended {
            link: self,
            session: &session,
        };
        let bytes_at = self.bytes_address(&welcome);
        self.name_seed(&session, &bytes_at);
        for held in self.node.holdings() {
            session.say(held);
        }
        self.note_live(&session, &welcome);
        let otherwise = address::join(address::host_of(&self.address), port_of(&bytes_at));
        let check = Verdict::find(bytes_at, Some(otherwise));
        let why = self.listen(&mut inbound, &session, check).await;
        drop(attended);
        why
    }

    async fn dial(
        &self,
        outgoing: Outgoing<NodeSays>,
    ) -> Result<(Streaming<SupernodeSays>, Welcome), Why> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        let endpoint = endpoint.map_err(|error| format!("not an address: {error}"))?;
        let endpoint = endpoint
            .connect_timeout(DIAL)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let channel = endpoint.connect().await.map_err(|error| chain(&error))?;
        let mut client = SwarmClient::new(channel);
        let late = |_| "it answers too slowly".to_owned();
        let answer = timeout(WELCOME, client.attend(outgoing)).await;
        let answer = answer.map_err(late)?;
        let mut inbound = answer.map_err(|status| chain(&status))?.into_inner();
        let first = timeout(WELCOME, inbound.message()).await.map_err(late)?;
        let first = first.map_err(|status| chain(&status))?;
        match first.and_then(|said| said.word) {
            Some(supernode_says::Word::Welcome(welcome)) => Ok((inbound, welcome)),
            _ => Err("it does not begin with a welcome: is this a supernode?".to_owned()),
        }
    }

    /// Takes words in until the stream ends or the supernode is silent.
    async fn listen(
        &self,
        inbound: &mut Streaming<SupernodeSays>,
        session: &Arc<Session>,
        check: impl Future<Output = Verdict>,
    ) -> Why {
        let mut check = pin!(check);
        let mut checked = false;
        let mut ticks = interval(ALIVE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    if silent >= SILENT_TICKS {
                        return "it is silent".to_owned();
                    }
                    silent += 1;
                    if !session.say(node_says::Word::Alive(Alive {})) {
                        return "it takes nothing in".to_owned();
                    }
                }
                said = inbound.message() => match said {
                    Ok(Some(said)) => {
                        silent = 0;
                        if let Some(word) = said.word {
                            self.take(session, word);
                        }
                    }
                    Ok(None) => return "it has ended the stream".to_owned(),
                    Err(status) => return chain(&status),
                },
                verdict = &mut check, if !checked => {
                    checked = true;
                    self.judge(session, verdict);
                }
            }
        }
    }

    fn take(&self, session: &Arc<Session>, word: supernode_says::Word) {
        use supernode_says::Word;
        match word {
            Word::Alive(_) | Word::Welcome(_) => {}
            Word::Heard(heard) => session.heard(heard.flight),
            Word::Accepted(accepted) => session.accepted(&accepted),
            Word::Refused(refused) => session.refused(refused),
            Word::Pieces(pieces) => session.pieces(&pieces),
            Word::Peers(named) => {
                for peer in named.peers.into_iter().filter(|peer| peer.handle != SEED) {
                    let id = PeerId(peer.node.into());
                    let made = self.node.peer(id, Origin::Peer, &peer.address);
                    session.name(peer.handle, made);
                }
            }
            Word::Mates(mates) => session.mates(&mates),
            Word::Instructions(instructions) => session.instructions(&instructions),
            Word::Verdict(verdict) => self.judged(verdict.into()),
            Word::Fetch(fetch) => {
                let preheat = Preheat::new(fetch, session.clone());
                if let Err(error) = self.node.preheats.try_send(preheat) {
                    error.into_inner().failed("the node has too much to do");
                }
            }
        }
    }

    fn note_live(&self, session: &Arc<Session>, welcome: &Welcome) {
        let mut state = self.lock();
        state.session = Some(session.clone());
        let status = &mut state.status;
        status.live = true;
        status.why.clear();
        status.name.clone_from(&welcome.supernode);
        status.seen_as.clone_from(&welcome.seen_as);
        (status.ours, status.theirs) = (None, None);
        drop(state);
        tracing::info!(
            supernode = self.address,
            name = welcome.supernode,
            seen_as = welcome.seen_as,
            "attending a supernode"
        );
        self.node.changed();
    }

    /// Our verdict about the supernode's address.
    fn judge(&self, session: &Arc<Session>, verdict: Verdict) {
        if !verdict.reached {
            tracing::warn!(
                supernode = self.address,
                advertised = verdict.address,
                error = verdict.error,
                instead = verdict.instead.as_deref().unwrap_or("none"),
                "the address that the supernode advertises cannot be reached from here; \
                 hint: start it with --advertise and a name that nodes reach"
            );
            self.name_seed(session, verdict.usable());
        }
        session.say(node_says::Word::Verdict(verdict.clone().into()));
        self.lock().status.theirs = Some(verdict);
        self.node.changed();
    }

    /// The supernode's verdict about our address.
    fn judged(&self, verdict: Verdict) {
        if !verdict.reached {
            tracing::warn!(
                supernode = self.address,
                advertised = verdict.address,
                error = verdict.error,
                instead = verdict.instead.as_deref().unwrap_or("none"),
                "the supernode cannot reach this node's peer port at the advertised address; \
                 hint: start it with --advertise and a name that other nodes reach"
            );
        }
        self.lock().status.ours = Some(verdict);
        self.node.changed();
    }

    fn name_seed(&self, session: &Session, address: &str) {
        let id = PeerId(session.supernode().into());
        let seed = self.node.peer(id, Origin::Supernode, address);
        session.name(SEED, seed);
    }

    /// Where the supernode serves bytes; without a host it is the one we have dialled.
    fn bytes_address(&self, welcome: &Welcome) -> String {
        match address::host_of(&welcome.bytes_address) {
            "" => {
                let port = port_of(&welcome.bytes_address);
                address::join(address::host_of(&self.address), port)
            }
            _ => welcome.bytes_address.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that ends when this is dropped.
struct Attended<'a> {
    link: &'a Link,
    session: &'a Arc<Session>,
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        self.link.lock().session = None;
        self.session.lose();
    }
}

fn port_of(address: &str) -> u16 {
    let port = address.rsplit_once(':').map(|(_, port)| port.parse());
    port.and_then(Result::ok).unwrap_or_default()
}

/// Between half of `pause` and all of it, so that nodes that lost one supernode do not return at once.
fn jittered(pause: Duration) -> Duration {
    let share = 0.5 + (random() >> 11) as f64 / (1u64 << 54) as f64;
    pause.mul_f64(share)
}

/// An error with its causes: tonic's own words are "transport error".
fn chain(error: &dyn std::error::Error) -> Why {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
