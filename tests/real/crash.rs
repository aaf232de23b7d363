//! kill -9 in the middle of a pull, restart, pull again.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clients::{Client, Pull, containerd};
use crate::support::darner::Darner;
use crate::support::images::image;
use crate::support::origin::{Access, Origin};
use crate::support::relay::Relay;
use crate::support::{Lab, in_lab, wait_for};

/// A pull of the big image then takes some seconds, of which the kill takes the middle.
const UPSTREAM_BYTES_PER_SECOND: u64 = 24 << 20;

fn killed_in_mid_pull(lab: &Lab, client: Client) -> Result<()> {
    let image = image("library/lab:layers")?;
    let origin = Origin::start(lab, &Access::Open)?;
    let relay = Relay::start(origin.addr)?;
    relay.limit(UPSTREAM_BYTES_PER_SECOND);
    let darner = Darner::start(lab, &[("docker.io", &relay.url())])?;
    let pull = Pull::public(lab, &darner, "docker.io/library/lab:layers");
    thread::scope(|scope| -> Result<()> {
        // This one may fail or not, as its client likes.
        let first = scope.spawn(|| client.pull(&pull));
        let half = image.size() / 2;
        wait_for("half of the image", Duration::from_secs(120), || {
            (relay.bytes() > half).then_some(())
        })?;
        darner.kill_and_restart()?;
        relay.limit(0);
        let _ = first.join();
        Ok(())
    })?;
    client
        .pull_same(&pull, &image)
        .context("the pull after the restart")?;
    let (bytes, size) = (relay.bytes(), image.size());
    ensure!(
        bytes * 10 <= size * 12,
        "upstream sent {bytes} bytes for an image of {size}: more than 1.2 times its size"
    );
    Ok(())
}

#[test]
fn killed_in_mid_pull_of_containerd() {
    in_lab(|lab| killed_in_mid_pull(lab, Client::Cri(containerd::Version::V1_7)));
}

#[test]
fn killed_in_mid_pull_of_skopeo() {
    in_lab(|lab| killed_in_mid_pull(lab, Client::Skopeo));
}

#[test]
fn ends_by_sigterm() {
    in_lab(|lab| {
        let origin = Origin::start(lab, &Access::Open)?;
        let darner = Darner::start(lab, &[("docker.io", &origin.url())])?;
        let pull = Pull::public(lab, &darner, "docker.io/library/small:1");
        Client::Skopeo.pull(&pull)?;
        darner.stop()
    });
}
