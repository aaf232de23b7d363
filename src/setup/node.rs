//! Whether the node answers, what it serves, and which client is installed: asked before anything
//! is written, because a client that is pointed to nothing pulls slower or not at all.

use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;

use crate::ask;
use crate::cli::Client;
use crate::failure::Failure;

const VERSION_DEADLINE: Duration = Duration::from_secs(5);

/// The part of `/status` that setup needs.
#[derive(Deserialize)]
struct Served {
    #[serde(default)]
    registries: Option<Vec<String>>,
}

/// Asks front door and admin port; the names of its operator's registries come back, if it says.
pub(crate) async fn check(address: &str, admin: &str) -> Result<Option<Vec<String>>, Failure> {
    let start = "start it first: darner up; is it elsewhere, name it";
    let ping = ask::get(address, "/v2/").await.map_err(|error| {
        Failure::new(format!("no node answers on {address}: {error}"))
            .hint(format!("{start} with --address HOST:PORT"))
    })?;
    if !matches!(ping.0, StatusCode::OK | StatusCode::UNAUTHORIZED) {
        return Err(Failure::new(format!(
            "what answers on {address} is no registry: GET /v2/ gives {}",
            ping.0
        ))
        .hint(format!("{start} with --address HOST:PORT")));
    }
    let no_status = |why: &str| {
        Failure::new(format!("no node answers on its admin port {admin}: {why}"))
            .hint(format!("{start} with --admin HOST:PORT"))
    };
    let (status, body) = ask::get(admin, "/status")
        .await
        .map_err(|error| no_status(&error.to_string()))?;
    if status != StatusCode::OK {
        return Err(no_status(&format!("GET /status gives {status}")));
    }
    let served: Served = serde_json::from_slice(&body)
        .map_err(|_| no_status("GET /status is not a node's answer"))?;
    Ok(served.registries)
}

/// The sentence of a failure without its hint, for a note.
pub(crate) fn first_line(failure: &Failure) -> String {
    let text = failure.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// Major and minor version of the client's daemon on this machine, if it can be asked.
pub(crate) async fn version(client: Client) -> Option<(u32, u32)> {
    let program = match client {
        Client::Containerd => "containerd",
        Client::Docker => "dockerd",
        Client::Podman => return None,
    };
    let mut command = tokio::process::Command::new(program);
    command.arg("--version").kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_DEADLINE, command.output())
        .await
        .ok()?
        .ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// The first `N.N` that begins a word.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches('v').splitn(3, '.');
        let digits = |part: &str| {
            let end = part.find(|c: char| !c.is_ascii_digit());
            part[..end.unwrap_or(part.len())].parse().ok()
        };
        Some((parts.next()?.parse().ok()?, digits(parts.next()?)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_daemons_print() {
        for (text, version) in [
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u2",
                (1, 6),
            ),
            ("containerd containerd.io v2.1.4 75cb2b71", (2, 1)),
            ("Docker version 20.10.24+dfsg1, build 297e128", (20, 10)),
        ] {
            assert_eq!(parse_version(text), Some(version), "{text}");
        }
        assert_eq!(parse_version("no version"), None);
    }
}
