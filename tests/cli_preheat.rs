//! `darner preheat` against a supernode of which the test says every word.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod cli;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use cli::{Machine, Said};
use futures_util::{Stream, StreamExt as _, stream};
use oci_conformance::origin::nobody;
use swarm::wire::swarm_server::{Swarm, SwarmServer};
use swarm::wire::{NodeSays, PreheatProgress, PreheatRequest, SupernodeSays};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

type Says<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer = Result<Vec<Result<PreheatProgress, Status>>, Status>;

/// What the supernode does, by name.
type Case = (&'static str, fn() -> Answer);

/// Answers each request alike and keeps it.
#[derive(Clone)]
struct Service {
    answer: Arc<dyn Fn() -> Answer + Send + Sync>,
    asked: Arc<Mutex<Vec<PreheatRequest>>>,
}

#[tonic::async_trait]
impl Swarm for Service {
    type AttendStream = Says<SupernodeSays>;
    type PreheatStream = Says<PreheatProgress>;

    async fn attend(
        &self,
        _: Request<Streaming<NodeSays>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn preheat(
        &self,
        request: Request<PreheatRequest>,
    ) -> Result<Response<Self::PreheatStream>, Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        Ok(Response::new(stream::iter((self.answer)()?).boxed()))
    }
}

struct Supernode {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<PreheatRequest>>>,
}

impl Supernode {
    fn start(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        let service = Service {
            answer: Arc::new(answer),
            asked: Arc::default(),
        };
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = incoming.local_addr().unwrap();
        let asked = service.asked.clone();
        let server = Server::builder().add_service(SwarmServer::new(service));
        // It ends with the test's runtime.
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { address, asked }
    }

    fn preheat(&self, arguments: &[&str]) -> Said {
        let address = self.address.to_string();
        let all = [&["preheat"], arguments, &["--supernode", &address]].concat();
        let mut said = tokio::task::block_in_place(|| Machine::new().run(all));
        for text in [&mut said.out, &mut said.err] {
            *text = text.replace(&address, "[supernode]");
        }
        said
    }
}

fn got(node: &str, done: u32, all: u32) -> Result<PreheatProgress, Status> {
    Ok(PreheatProgress {
        node: node.to_owned(),
        blobs_done: done,
        blobs_all: all,
        bytes_done: u64::from(done) << 20,
        bytes_all: u64::from(all) << 20,
        error: String::new(),
        finished: done == all,
    })
}

fn failed(node: &str, why: &str) -> Result<PreheatProgress, Status> {
    Ok(PreheatProgress {
        error: why.to_owned(),
        ..got(node, 1, 4)?
    })
}

/// Times differ from run to run.
fn timeless(text: &str) -> String {
    let words = text.split(' ').collect::<Vec<_>>();
    let is_time = |at: usize| {
        words
            .get(at + 1)
            .is_some_and(|word| word.trim_end_matches(':').lines().next() == Some("s"))
    };
    let shown = words.iter().enumerate().map(|(at, word)| match word {
        time if is_time(at) && time.parse::<f64>().is_ok() => "[time]",
        word => word,
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_have_it_in_the_end() {
    let supernode = Supernode::start(|| {
        let both = ["node-1", "node-2"];
        let words = (0..=4).flat_map(|done| both.map(|node| got(node, done, 4)));
        Ok(words.collect())
    });
    let said = supernode.preheat(&["quay.io/a/b", "--nodes", "all", "--platform", "linux/arm64"]);
    insta::assert_snapshot!("preheat_of_all_nodes", timeless(&said.text()));
    let said = supernode.preheat(&["alpine:3", "--nodes", "2", "--all-platforms", "--json"]);
    assert_eq!(said.code, 0, "{}", said.text());
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["image"], "docker.io/library/alpine:3");
    assert_eq!(json["nodes"][1]["node"], "node-2");
    assert_eq!(json["nodes"][1]["bytes_done"], 4 << 20);
    assert_eq!(json["nodes"][1]["finished"], true);
    assert!(json["nodes"][1]["error"].is_null());

    let asked = supernode.asked.lock().unwrap();
    let asked: Vec<_> = asked
        .iter()
        .map(|asked| (asked.image.as_str(), asked.nodes, asked.platform.as_str()))
        .collect();
    assert_eq!(
        asked,
        [
            ("quay.io/a/b:latest", 0, "linux/arm64"),
            ("docker.io/library/alpine:3", 2, "")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_done_is_a_failure_with_a_way_out() {
    let alpine = ["alpine", "--nodes", "3"];
    let mut text = String::new();
    let mut tell = |what: &str, said: &Said| {
        assert_eq!(said.code, 1, "{what}: {}", said.text());
        text.push_str(&format!("{what}\n{}\n", timeless(&said.text())));
    };
    let answers: [Case; 8] = [
        ("one fails", || {
            let words = [got("a", 4, 4), failed("b", "disk full"), got("c", 4, 4)];
            Ok(words.into())
        }),
        ("all but one fail", || {
            let nodes = ["a", "b", "c", "d", "e", "f", "g"];
            let failed = nodes.into_iter().map(|node| failed(node, "no room"));
            Ok(failed.chain([got("z", 4, 4)]).collect())
        }),
        ("one is not done", || {
            Ok(vec![got("a", 4, 4), got("b", 1, 4)])
        }),
        ("too few attend", || {
            Ok(vec![got("a", 4, 4), got("b", 4, 4)])
        }),
        ("nobody attends", || Ok(Vec::new())),
        ("no such image", || {
            Err(Status::not_found("manifest unknown"))
        }),
        ("not public", || Err(Status::permission_denied("401"))),
        ("it breaks off", || {
            Ok(vec![
                got("a", 1, 4),
                Err(Status::unavailable("shutting down")),
            ])
        }),
    ];
    for (what, answer) in answers {
        tell(what, &Supernode::start(answer).preheat(&alpine));
    }
    insta::assert_snapshot!(text);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_cannot_work_are_told() {
    let machine = Machine::new();
    let nobody = nobody().await.to_string();
    let mut text = String::new();
    for arguments in [
        vec!["alpine"],
        vec!["alpine", "--nodes", "some"],
        vec!["https://x", "--nodes", "all"],
        vec!["alpine", "--nodes", "all", "--platform", "arm"],
        vec!["alpine", "--nodes", "all", "--supernode", "http://seed.lan"],
        vec!["alpine", "--nodes", "all", "--supernode", &nobody],
    ] {
        let all = ["preheat"].iter().chain(&arguments);
        let said = tokio::task::block_in_place(|| machine.run(all));
        let shown = arguments.join(" ");
        text.push_str(&format!("$ darner preheat {shown}\n{}\n", said.text()));
    }
    insta::assert_snapshot!(text.replace(&nobody, "[nobody]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_own_setting_names_the_supernode() {
    let supernode = Supernode::start(|| Ok(vec![got("a", 4, 4)]));
    let machine = Machine::new();
    let nobody = nobody().await;
    let mut command = machine.command(["preheat", "alpine", "--nodes", "all"]);
    // The first that answers is asked.
    command.env(
        "DARNER_SUPERNODE",
        format!("{nobody},{}", supernode.address),
    );
    let said = tokio::task::block_in_place(|| machine.said(&mut command));
    assert_eq!(said.code, 0, "{}", said.text());
    assert_eq!(supernode.asked.lock().unwrap().len(), 1);
}
