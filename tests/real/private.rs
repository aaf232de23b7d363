//! A private image goes to whoever has the right to it and to nobody else, held or not.

use anyhow::{Context, Result, ensure};

use crate::clients::{Client, Pull, containerd, docker};
use crate::support::darner::{Darner, With};
use crate::support::images::{Image, image};
use crate::support::origin::{Access, Origin, Request};
use crate::support::token::{ACCOUNT, TokenServer};
use crate::support::{Lab, http, in_lab};

const PRIVATE: &str = "docker.io/private/lab:1";
const READERS: [Client; 4] = [
    Client::Ctr(containerd::Version::Debian),
    Client::Cri(containerd::Version::Debian),
    Client::Cri(containerd::Version::V1_7),
    Client::Cri(containerd::Version::V2),
];

/// Whether anything of the image can be had without credentials: by tag, by digest, each blob, and by a client.
fn nobody_reads(lab: &Lab, darner: &Darner, image: &Image) -> Result<()> {
    let manifests = [image.tag.clone(), image.digest.clone()]
        .map(|what| format!("/v2/{}/manifests/{what}", image.repository));
    let blobs = image.blobs.iter().map(|blob| image.blob_path(blob));
    // The same digest through a repository that anyone may read is no way in either.
    let aside = image
        .blobs
        .iter()
        .map(|blob| format!("/v2/library/small/blobs/{}", blob.digest));
    for path in manifests.into_iter().chain(blobs).chain(aside) {
        for method in ["GET", "HEAD"] {
            let answer = http::request(darner.addr, method, &path, &[], &[])?;
            ensure!(
                (400..500).contains(&answer.status),
                "{method} {path} without right is {}",
                answer.status
            );
        }
    }
    let wrong = [None, Some((ACCOUNT.0, "wrong"))];
    for account in wrong {
        let pull = Pull {
            lab,
            darner,
            image: PRIVATE,
            account,
        };
        for client in [
            Client::Ctr(containerd::Version::Debian),
            Client::Cri(containerd::Version::V2),
        ] {
            ensure!(
                client.pull(&pull).is_err(),
                "{client} pulled the private image with {account:?}"
            );
        }
    }
    ensure!(
        Client::Skopeo
            .pull(&Pull {
                lab,
                darner,
                image: PRIVATE,
                account: None
            })
            .is_err(),
        "skopeo pulled the private image"
    );
    Ok(())
}

fn only_with_right(lab: &Lab, origin: &Origin) -> Result<()> {
    let image = image("private/lab:1")?;
    let darner = Darner::start_with(
        lab,
        &[("docker.io", &origin.url())],
        &With {
            file: &origin.file(),
            ..With::default()
        },
    )?;
    nobody_reads(lab, &darner, &image).context("before anyone with the right has pulled")?;
    for reader in READERS {
        let pull = Pull {
            lab,
            darner: &darner,
            image: PRIVATE,
            account: Some(ACCOUNT),
        };
        reader.pull_same(&pull, &image)?;
    }
    // Whether a reader may have the held bytes is asked by HEAD or for one byte: the whole came once.
    let biggest = image.biggest()?;
    let whole = |request: &&Request| {
        request.method == "GET" && request.status == 200 && request.path.contains(&biggest.digest)
    };
    let times = origin.requests().iter().filter(whole).count();
    ensure!(
        times == 1,
        "upstream sent the private layer {times} times to {} readers",
        READERS.len()
    );
    nobody_reads(lab, &darner, &image).context("while Darner holds it")
}

#[test]
fn private_by_token() {
    in_lab(|lab| {
        let tokens = TokenServer::start(lab)?;
        let origin = Origin::start(lab, &Access::Token(&tokens))?;
        only_with_right(lab, &origin)?;
        ensure!(
            tokens.account_tokens() > 0,
            "no client asked for a token with its account"
        );
        Ok(())
    });
}

#[test]
fn private_by_basic() {
    in_lab(|lab| {
        let origin = Origin::start(lab, &Access::Basic)?;
        only_with_right(lab, &origin)
    });
}

#[test]
fn public_images_of_a_registry_with_tokens_need_no_account() {
    in_lab(|lab| {
        let tokens = TokenServer::start(lab)?;
        let origin = Origin::start(lab, &Access::Token(&tokens))?;
        let darner = Darner::start_with(
            lab,
            &[("docker.io", &origin.url())],
            &With {
                file: &origin.file(),
                ..With::default()
            },
        )?;
        let image = image("library/small:1")?;
        let pull = Pull::public(lab, &darner, "docker.io/library/small:1");
        // dockerd and podman see no challenge from the ping: Darner gets the anonymous token itself.
        for client in [
            Client::Docker(docker::Version::Debian),
            Client::Podman,
            Client::Skopeo,
        ] {
            client.pull_same(&pull, &image)?;
        }
        Ok(())
    });
}
