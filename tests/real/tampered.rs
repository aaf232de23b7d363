//! An upstream whose bytes do not fit their digest: nothing wrong reaches a client whole, and nothing is kept.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::clients::{Client, Pull, containerd, docker};
use crate::support::darner::Darner;
use crate::support::images::{Image, blob_file, digest_of, image, storage, storage_copy};
use crate::support::origin::{Access, Origin, Writable};
use crate::support::{Lab, http, in_lab};

const CLIENTS: [Client; 5] = [
    Client::Ctr(containerd::Version::Debian),
    Client::Cri(containerd::Version::V2),
    Client::Docker(docker::Version::Debian),
    Client::Podman,
    Client::Skopeo,
];

/// Replaces the bytes of a digest with others of the same length; gives back the right ones.
fn tamper(storage: &Path, digest: &str, at: usize) -> Result<Vec<u8>> {
    let file = blob_file(storage, digest)?;
    let right = std::fs::read(&file)?;
    let mut wrong = right.clone();
    wrong[at] ^= 1;
    replace(&file, &wrong)?;
    Ok(right)
}

/// A new file: the old one is shared with the storage that other tests use.
fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::remove_file(file)?;
    Ok(std::fs::write(file, bytes)?)
}

/// Asks twice for the path: never a complete body with status 200.
fn never_whole(darner: &Darner, path: &str) -> Result<()> {
    for _ in 0..2 {
        let answer = http::get(darner.addr, path, &[])?;
        let status = answer.status;
        if status == 200 {
            ensure!(
                answer.length().is_some(),
                "a body without a length could pass for whole"
            );
            ensure!(answer.body().is_err(), "{path} came whole with wrong bytes");
        } else {
            ensure!(status >= 400, "{path} is {status}");
        }
    }
    Ok(())
}

/// Tampers with the digest, shows that no client gets it, mends it, shows that all is well at once.
fn never_reaches_a_client(
    lab: &Lab,
    image: &Image,
    digest: &str,
    path: &str,
    at: usize,
) -> Result<()> {
    let storage = storage_copy(lab)?;
    let right = tamper(&storage, digest, at)?;
    let origin = Origin::serve(lab, &storage, &Access::Open, Writable::No)?;
    let darner = Darner::start(lab, &[("docker.io", &origin.url())])?;
    never_whole(&darner, path)?;
    let reference = format!("docker.io/{}", image.name());
    let pull = Pull::public(lab, &darner, &reference);
    for client in CLIENTS {
        ensure!(
            client.pull(&pull).is_err(),
            "{client} pulled an image with wrong bytes"
        );
    }
    replace(&blob_file(&storage, digest)?, &right)?;
    let answer = http::get(darner.addr, path, &[])?;
    ensure!(
        answer.status == 200,
        "{path} is {} after upstream was mended",
        answer.status
    );
    ensure!(
        digest_of(&answer.body()?) == digest,
        "wrong bytes were kept"
    );
    Client::Skopeo
        .pull_same(&pull, image)
        .context("after upstream was mended")
}

#[test]
fn wrong_layer() {
    in_lab(|lab| {
        let image = image("library/small:1")?;
        let blob = image.biggest()?.clone();
        let at = usize::try_from(blob.size / 3)?;
        never_reaches_a_client(lab, &image, &blob.digest, &image.blob_path(&blob), at)
    });
}

#[test]
fn wrong_manifest() {
    in_lab(|lab| {
        let image = image("library/small:1")?;
        let path = format!("/v2/{}/manifests/{}", image.repository, image.digest);
        // Another digit in a digest: still a manifest, for another blob.
        let bytes = std::fs::read(blob_file(&storage()?, &image.digest)?)?;
        let first = String::from_utf8(bytes.clone())?
            .find("sha256:")
            .context("a digest in the manifest")?
            + 7;
        let digit = bytes[first..]
            .iter()
            .position(|byte| (b'2'..=b'9').contains(byte))
            .context("a digit")?;
        let at = first + digit;
        never_reaches_a_client(lab, &image, &image.digest, &path, at)
    });
}
