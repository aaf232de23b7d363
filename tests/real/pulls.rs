//! Every client pulls the multi-layer image cold and warm.

use anyhow::{Context, Result, ensure};

use crate::clients::{Client, Pull, containerd, docker};
use crate::support::darner::Darner;
use crate::support::images::{Image, image};
use crate::support::origin::{Access, Origin};
use crate::support::{Lab, in_lab};

/// Pulls cold and warm and compares digests and what upstream was asked for.
fn cold_and_warm(lab: &Lab, client: Client, name: &str, registry: &str) -> Result<()> {
    let image = image(name)?;
    let origin = Origin::start(lab, &Access::Open)?;
    let darner = Darner::start(lab, &[(registry, &origin.url())])?;
    let reference = format!("{registry}/{name}");
    let pull = Pull {
        lab,
        darner: &darner,
        image: &reference,
        account: None,
    };

    let cold = client
        .pull(&pull)
        .with_context(|| format!("cold pull by {client}"))?;
    ensure!(
        cold == image.digest,
        "{client} has {cold}, upstream has {}",
        image.digest
    );
    let asked = origin.blob_gets();
    once_each(&image, &asked).with_context(|| format!("cold pull by {client}"))?;

    let warm = client
        .pull(&pull)
        .with_context(|| format!("warm pull by {client}"))?;
    ensure!(
        warm == image.digest,
        "{client} has {warm}, upstream has {}",
        image.digest
    );
    let again = origin.blob_gets();
    ensure!(
        again.len() == asked.len(),
        "the warm pull by {client} cost upstream GETs: {:?}",
        &again[asked.len()..]
    );
    Ok(())
}

/// Every blob of the image was asked for exactly once.
pub(crate) fn once_each(image: &Image, asked: &[String]) -> Result<()> {
    for blob in &image.blobs {
        let times = asked
            .iter()
            .filter(|path| path.contains(&blob.digest))
            .count();
        ensure!(
            times == 1,
            "upstream sent {} ({} bytes) {times} times: {asked:#?}",
            blob.digest,
            blob.size
        );
    }
    Ok(())
}

macro_rules! each {
    ($($name:ident: $client:expr, $image:expr, $registry:expr;)*) => {$(
        #[test]
        fn $name() {
            in_lab(|lab| cold_and_warm(lab, $client, $image, $registry));
        }
    )*};
}

each! {
    ctr_of_debian_containerd: Client::Ctr(containerd::Version::Debian), "library/lab:layers", "docker.io";
    cri_of_debian_containerd: Client::Cri(containerd::Version::Debian), "library/lab:layers", "docker.io";
    ctr_of_containerd_1_7: Client::Ctr(containerd::Version::V1_7), "library/lab:layers", "docker.io";
    cri_of_containerd_1_7: Client::Cri(containerd::Version::V1_7), "library/lab:layers", "docker.io";
    ctr_of_containerd_2: Client::Ctr(containerd::Version::V2), "library/lab:layers", "docker.io";
    cri_of_containerd_2: Client::Cri(containerd::Version::V2), "library/lab:layers", "docker.io";
    debian_dockerd: Client::Docker(docker::Version::Debian), "library/lab:layers", "docker.io";
    newer_dockerd: Client::Docker(docker::Version::New), "library/lab:layers", "docker.io";
    newer_dockerd_with_containerd_store: Client::Docker(docker::Version::NewContainerdStore), "library/lab:layers", "docker.io";
    podman: Client::Podman, "library/lab:layers", "docker.io";
    skopeo: Client::Skopeo, "library/lab:layers", "docker.io";
    zstd_layer_by_cri: Client::Cri(containerd::Version::V2), "library/lab:zstd", "docker.io";
    zstd_layer_by_podman: Client::Podman, "library/lab:zstd", "docker.io";
    other_registry_by_ns: Client::Cri(containerd::Version::V1_7), "org/app:1", "quay.test";
    other_registry_by_path: Client::Podman, "org/app:1", "quay.test";
}
