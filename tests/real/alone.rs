//! With upstream gone, what was pulled is pulled again, by tag.

use anyhow::{Context, Result, ensure};

use crate::clients::{Client, Pull, containerd, docker};
use crate::support::darner::Darner;
use crate::support::images::image;
use crate::support::origin::{Access, Origin};
use crate::support::{Lab, http, in_lab};

const CLIENTS: [Client; 6] = [
    Client::Ctr(containerd::Version::Debian),
    Client::Cri(containerd::Version::V1_7),
    Client::Cri(containerd::Version::V2),
    Client::Docker(docker::Version::Debian),
    Client::Podman,
    Client::Skopeo,
];

fn pull_all(lab: &Lab, darner: &Darner) -> Result<()> {
    let image = image("library/small:1")?;
    let pull = Pull::public(lab, darner, "docker.io/library/small:1");
    for client in CLIENTS {
        client.pull_same(&pull, &image)?;
    }
    Ok(())
}

#[test]
fn what_was_pulled_is_pulled_again_with_upstream_gone() {
    in_lab(|lab| {
        let mut origin = Origin::start(lab, &Access::Open)?;
        let darner = Darner::start(lab, &[("docker.io", &origin.url())])?;
        let pull = Pull::public(lab, &darner, "docker.io/library/small:1");
        Client::Skopeo.pull(&pull)?;
        origin.stop()?;
        pull_all(lab, &darner)?;
        // And a restarted Darner still knows it: the tag and that the repository is public are on disk.
        darner.kill_and_restart()?;
        pull_all(lab, &darner).context("after a restart")
    });
}

#[test]
fn what_was_not_pulled_is_refused_quickly_with_upstream_gone() {
    in_lab(|lab| {
        let mut origin = Origin::start(lab, &Access::Open)?;
        let darner = Darner::start(lab, &[("docker.io", &origin.url())])?;
        origin.stop()?;
        let image = image("library/small:1")?;
        let blob = http::get(darner.addr, &image.blob_path(image.biggest()?), &[])?;
        // A 5xx on a layer makes dockerd wait 75 s before it goes on.
        ensure!(
            blob.status == 404,
            "a blob that cannot be had is {}",
            blob.status
        );
        let tag = http::get(darner.addr, "/v2/library/small/manifests/1", &[])?;
        ensure!(
            tag.status == 502 || tag.status == 504,
            "a tag that cannot be had is {}",
            tag.status
        );
        Ok(())
    });
}
