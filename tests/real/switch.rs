//! Several endpoints of one registry: a dead one is passed over, a dying one is left in mid-blob.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::clients::{Client, Pull, containerd};
use crate::support::darner::Darner;
use crate::support::images::image;
use crate::support::origin::{Access, Origin};
use crate::support::relay::Relay;
use crate::support::{Lab, in_lab, wait_for};

const UPSTREAM_BYTES_PER_SECOND: u64 = 24 << 20;

#[test]
fn a_dead_first_endpoint_is_passed_over() {
    in_lab(|lab| {
        let image = image("library/small:1")?;
        let origin = Origin::start(lab, &Access::Open)?;
        let urls = format!("http://127.0.0.1:1,{}", origin.url());
        let darner = Darner::start(lab, &[("docker.io", &urls)])?;
        let pull = Pull::public(lab, &darner, "docker.io/library/small:1");
        Client::Skopeo.pull_same(&pull, &image)
    });
}

/// The first endpoint ends at half of the image; the client sees one pull that goes on.
fn dies_in_mid_blob(lab: &Lab, client: Client) -> Result<()> {
    let image = image("library/lab:layers")?;
    let origin = Origin::start(lab, &Access::Open)?;
    let (first, second) = (Relay::start(origin.addr)?, Relay::start(origin.addr)?);
    first.limit(UPSTREAM_BYTES_PER_SECOND);
    let urls = format!("{},{}", first.url(), second.url());
    let darner = Darner::start(lab, &[("docker.io", &urls)])?;
    let pull = Pull::public(lab, &darner, "docker.io/library/lab:layers");
    thread::scope(|scope| -> Result<()> {
        let pulled = scope.spawn(|| client.pull_same(&pull, &image));
        let half = image.size() / 2;
        wait_for("half of the image", Duration::from_secs(120), || {
            (first.bytes() > half).then_some(())
        })?;
        first.end();
        pulled
            .join()
            .map_err(|_| anyhow!("{client} panicked"))?
            .context("while its first endpoint died")
    })?;
    let (bytes, size) = (first.bytes() + second.bytes(), image.size());
    ensure!(
        bytes * 10 <= size * 11,
        "upstreams sent {bytes} bytes for an image of {size}: more than 1.1 times its size"
    );
    Ok(())
}

#[test]
fn an_endpoint_that_dies_in_mid_blob_is_left_for_the_next() {
    in_lab(|lab| dies_in_mid_blob(lab, Client::Skopeo));
}

#[test]
fn containerd_does_not_see_its_endpoint_die() {
    in_lab(|lab| dies_in_mid_blob(lab, Client::Ctr(containerd::Version::Debian)));
}
