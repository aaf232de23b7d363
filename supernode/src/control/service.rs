//! The gRPC service: a node's stream, from its hello to its end.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use oci::image::ImageError;
use oci::platform::PlatformError;
use proxy::ImageRefusal;
use swarm::Verdict;
use swarm::attend::outbox::Outbox;
use swarm::wire::swarm_server::Swarm;
use swarm::wire::{
    Hello, NodeSays, PreheatProgress, PreheatRequest, SupernodeSays, Welcome, node_says,
    supernode_says,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::book::candidates;
use crate::leader::{Command, NodeStream, Preheat, PreheatRefusal};
use crate::scheduler::NodeKey;

/// How long a node may take to say hello.
const HELLO: Duration = Duration::from_secs(5);
/// Words that wait for a node. Instructions are bounded by its slots, so that one which reads never
/// comes near; one which does not is dropped.
const OUTBOX: usize = 4096;

/// Where the client of a connection is; the accept loop puts it into every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) SocketAddr);

/// See the module. Clones are the same service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) commands: mpsc::Sender<Command>,
    /// What this supernode calls itself.
    pub(crate) name: String,
    /// `host:port` of its bytes; an empty host is the one that the node has dialled.
    pub(crate) bytes_address: String,
    pub(crate) tasks: TaskTracker,
    pub(crate) ending: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Swarm for Service {
    type AttendStream = Answers<SupernodeSays>;
    type PreheatStream = Answers<PreheatProgress>;

    async fn attend(
        &self,
        request: Request<Streaming<NodeSays>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        if self.ending.is_cancelled() {
            return Err(Status::unavailable("this supernode is shutting down"));
        }
        let caller = request.extensions().get::<Caller>();
        let seen = caller.map(|caller| caller.0.ip().to_canonical());
        let seen = seen.ok_or_else(|| Status::internal("a request without a connection"))?;
        let (outbox, outgoing) = Outbox::new(OUTBOX);
        let ends = self.ending.child_token();
        let stream = NodeStream { outbox, ends };
        self.tasks
            .spawn(self.clone().listen(request.into_inner(), seen, stream));
        Ok(Response::new(outgoing.map(Ok).boxed()))
    }

    async fn preheat(
        &self,
        request: Request<PreheatRequest>,
    ) -> Result<Response<Self::PreheatStream>, Status> {
        let request = request.into_inner();
        let unfit = |error: &dyn std::fmt::Display| Status::invalid_argument(error.to_string());
        let platform = match request.platform.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|error: PlatformError| unfit(&error))?),
        };
        let (answer, answered) = oneshot::channel();
        let preheat = Preheat {
            name: request
                .image
                .parse()
                .map_err(|error: ImageError| unfit(&error))?,
            platform,
            nodes: request.nodes,
            answer,
        };
        let leaving = || Status::unavailable("this supernode is shutting down");
        let sent = self
            .commands
            .send(Command::Preheat(Box::new(preheat)))
            .await;
        sent.map_err(|_| leaving())?;
        let outgoing = answered.await.map_err(|_| leaving())?;
        let outgoing = outgoing.map_err(|refusal| status_of(&refusal))?;
        Ok(Response::new(outgoing.map(Ok).boxed()))
    }
}

impl Service {
    async fn listen(self, mut said: Streaming<NodeSays>, seen: IpAddr, stream: NodeStream) {
        let (outbox, ends) = (stream.outbox.clone(), stream.ends.clone());
        let attending = self.attend_with(&mut said, seen, stream);
        ends.run_until_cancelled(attending).await;
        outbox.close();
    }

    async fn attend_with(&self, said: &mut Streaming<NodeSays>, seen: IpAddr, stream: NodeStream) {
        let Some(hello) = hello(said).await else {
            return;
        };
        let welcome = supernode_says::Word::Welcome(Welcome {
            supernode: self.name.clone(),
            bytes_address: self.bytes_address.clone(),
            seen_as: seen.to_string(),
        });
        // A fresh outbox has room for it.
        let _ = stream.outbox.say(welcome.into());
        let (advertised, otherwise) = candidates(&hello, seen);
        let Some(node) = self.came(hello, seen, stream).await else {
            return;
        };
        // Says that it went however this ends.
        let _attending = Attending {
            node,
            service: self.clone(),
        };
        let mut check = std::pin::pin!(Verdict::find(advertised, otherwise));
        let mut checked = false;
        loop {
            let command = tokio::select! {
                biased;
                verdict = &mut check, if !checked => {
                    checked = true;
                    Command::Judged(node, verdict)
                }
                message = said.message() => match message {
                    Ok(Some(NodeSays { word: Some(word) })) => Command::Said(node, word),
                    Ok(Some(NodeSays { word: None })) => continue,
                    Ok(None) => return,
                    Err(status) => {
                        tracing::debug!(%seen, %status, "a node's stream broke");
                        return;
                    }
                },
            };
            if self.commands.send(command).await.is_err() {
                return;
            }
        }
    }

    async fn came(&self, hello: Hello, seen: IpAddr, stream: NodeStream) -> Option<NodeKey> {
        let (key, keyed) = oneshot::channel();
        let came = Command::Came {
            hello: Box::new(hello),
            seen,
            stream,
            key,
        };
        self.commands.send(came).await.ok()?;
        keyed.await.ok()
    }
}

/// A node that attends, until this is dropped.
struct Attending {
    node: NodeKey,
    service: Service,
}

impl Drop for Attending {
    fn drop(&mut self) {
        let commands = self.service.commands.clone();
        let went = Command::Went(self.node);
        if let Err(mpsc::error::TrySendError::Full(went)) = commands.try_send(went) {
            // Nobody may wait in a drop; the task is joined with the others.
            self.service.tasks.spawn(async move {
                let _ = commands.send(went).await;
            });
        }
    }
}

fn status_of(refusal: &PreheatRefusal) -> Status {
    let why = refusal.to_string();
    match refusal {
        PreheatRefusal::Image(ImageRefusal::Unknown(_)) => Status::not_found(why),
        PreheatRefusal::Image(ImageRefusal::NotPublic(_)) => Status::permission_denied(why),
        PreheatRefusal::Image(ImageRefusal::Unfit(_)) => Status::invalid_argument(why),
        PreheatRefusal::Image(ImageRefusal::Unavailable(_)) => Status::aborted(why),
        PreheatRefusal::Busy => Status::resource_exhausted(why),
    }
}

async fn hello(said: &mut Streaming<NodeSays>) -> Option<Hello> {
    let first = tokio::time::timeout(HELLO, said.message()).await;
    match first.ok()?.ok()??.word? {
        node_says::Word::Hello(hello) => Some(hello),
        _ => None,
    }
}
