//! `darner preheat`: an image onto nodes before anybody pulls it there, through their supernode.
//!
//! Invariant: it succeeds only if every node that was asked for holds all of the image. Deliberately
//! not here: which nodes, and what the image consists of; the supernode knows both.

mod nodes;

use std::time::Duration;

use oci::{ImageName, Platform};
use swarm::wire::PreheatRequest;
use swarm::wire::swarm_client::SwarmClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::cli::PreheatArgs;
use crate::config;
use crate::failure::Failure;
use crate::pull::parse_platform;
use crate::speak::say;
use nodes::Nodes;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A supernode answers the request itself when the image is resolved at its registry.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// A supernode that is gone is noticed by its silence on the connection, however long nodes take.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_DEADLINE: Duration = Duration::from_secs(10);

/// Does what the arguments say.
pub(crate) async fn run(args: &PreheatArgs) -> Result<(), Failure> {
    let name: ImageName = args.image.parse().map_err(|error| {
        Failure::usage(format!("`{}` names no image: {error}", args.image))
            .hint("write alpine:3 or quay.io/org/app@sha256:...")
    })?;
    let wanted = count(&args.nodes)?;
    let platform = match (&args.platform, args.all_platforms) {
        (_, true) => String::new(),
        (Some(text), false) => parse_platform(text)?.to_string(),
        (None, false) => Platform::of_this_machine().to_string(),
    };
    let request = PreheatRequest {
        image: name.to_string(),
        nodes: wanted,
        platform,
    };
    let supernodes = config::supernodes(&args.layer())?;
    let (at, channel) = connect(&supernodes).await?;
    let mut client = SwarmClient::new(channel);
    let asked = tokio::time::timeout(ANSWER_DEADLINE, client.preheat(request)).await;
    let asked = asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("it does not answer")));
    let mut progress = asked
        .map_err(|status| refused(&at, &name, &status))?
        .into_inner();
    let mut nodes = Nodes::new(wanted);
    loop {
        match progress.message().await {
            Ok(Some(said)) => nodes.learn(said),
            Ok(None) => break,
            Err(status) => {
                nodes.close();
                return Err(refused(&at, &name, &status));
            }
        }
    }
    nodes.close();
    let outcome = nodes.outcome(&at);
    if args.json {
        say(nodes.json(&name, &at));
    } else if outcome.is_ok() {
        say(nodes.line(&name));
    }
    outcome
}

/// `all` is 0.
fn count(text: &str) -> Result<u32, Failure> {
    match (text, text.parse::<u32>()) {
        ("all", _) => Ok(0),
        (_, Ok(number)) if number > 0 => Ok(number),
        _ => Err(Failure::usage(format!(
            "--nodes: `{text}` is neither `all` nor a number above 0"
        ))
        .hint("write --nodes all, or how many nodes shall have the image: --nodes 3")),
    }
}

/// The first that can be reached.
async fn connect(supernodes: &[String]) -> Result<(String, Channel), Failure> {
    let mut failures = Vec::new();
    for at in supernodes {
        match dial(at).await {
            Ok(channel) => return Ok((at.clone(), channel)),
            Err(why) => failures.push(format!("no supernode answers on {at}: {why}")),
        }
    }
    Err(Failure::new(failures.join("; ")).hint(
        "start one with `darner supernode`, or name its control port with --supernode HOST:8002",
    ))
}

async fn dial(at: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{at}"))
        .map_err(|error| error.to_string())?
        .connect_timeout(CONNECT_DEADLINE)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_DEADLINE);
    endpoint.connect().await.map_err(|error| innermost(&error))
}

/// Transports say nothing at the top and everything below.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

fn refused(at: &str, name: &ImageName, status: &Status) -> Failure {
    let why = status.message();
    match status.code() {
        Code::Unimplemented => Failure::new(format!(
            "what answers on {at} does not lead a swarm, or is older than this program"
        ))
        .hint("name a supernode's control port with --supernode HOST:8002"),
        Code::NotFound => Failure::new(format!("{name} cannot be had: {why}"))
            .hint("look at the name; if it is right, the supernode's log says why"),
        Code::InvalidArgument => Failure::usage(format!("the supernode refuses {name}: {why}"))
            .hint("look at the name and at --platform"),
        Code::PermissionDenied | Code::Unauthenticated => {
            Failure::new(format!("{name} is not public: {why}"))
                .hint("only what a registry gives to anybody is shared between nodes")
        }
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
            Failure::new(format!("the supernode on {at} is gone: {why}"))
                .hint("nodes go on with what they have begun; run this again when it is back")
        }
        _ => Failure::new(format!("the supernode on {at} refuses {name}: {why}"))
            .hint("its log says more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_all_or_a_number() {
        assert_eq!(count("all"), Ok(0));
        assert_eq!(count("3"), Ok(3));
        for text in ["0", "-1", "some", ""] {
            assert_eq!(count(text).unwrap_err().code(), 2, "{text}");
        }
    }
}
