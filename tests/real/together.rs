//! Many clients at once cost one upstream GET for each blob.

use std::thread;

use anyhow::{Result, anyhow, ensure};

use crate::clients::{Client, Pull, containerd, docker};
use crate::pulls::once_each;
use crate::support::darner::Darner;
use crate::support::images::image;
use crate::support::origin::{Access, Origin};
use crate::support::relay::Relay;
use crate::support::{Lab, in_lab};

/// Slow enough that the first client is not done before the last begins.
const UPSTREAM_BYTES_PER_SECOND: u64 = 12 << 20;

fn together(lab: &Lab, clients: &[Client]) -> Result<()> {
    let image = image("library/small:1")?;
    let origin = Origin::start(lab, &Access::Open)?;
    let relay = Relay::start(origin.addr)?;
    relay.limit(UPSTREAM_BYTES_PER_SECOND);
    let darner = Darner::start(lab, &[("docker.io", &relay.url())])?;
    let pull = Pull::public(lab, &darner, "docker.io/library/small:1");
    thread::scope(|scope| -> Result<()> {
        let running: Vec<_> = clients
            .iter()
            .map(|client| scope.spawn(|| client.pull_same(&pull, &image)))
            .collect();
        for (client, pulled) in clients.iter().zip(running) {
            pulled.join().map_err(|_| anyhow!("{client} panicked"))??;
        }
        Ok(())
    })?;
    once_each(&image, &origin.blob_gets())?;
    let heads = origin
        .requests()
        .iter()
        .filter(|r| r.method == "HEAD" && r.path.contains("/blobs/"))
        .count();
    ensure!(
        heads == 0,
        "upstream was asked {heads} HEADs of blobs that were on their way anyway"
    );
    Ok(())
}

#[test]
fn eight_skopeos_at_once_cost_one_get_for_each_blob() {
    in_lab(|lab| together(lab, &[Client::Skopeo; 8]));
}

#[test]
fn one_of_each_kind_at_once_costs_one_get_for_each_blob() {
    in_lab(|lab| {
        together(
            lab,
            &[
                Client::Ctr(containerd::Version::Debian),
                Client::Cri(containerd::Version::V1_7),
                Client::Cri(containerd::Version::V2),
                Client::Ctr(containerd::Version::V2),
                Client::Docker(docker::Version::Debian),
                Client::Docker(docker::Version::New),
                Client::Podman,
                Client::Skopeo,
            ],
        )
    });
}
