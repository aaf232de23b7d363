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
    let pull = Pull::public(lab, &darner, &reference);

    client.pull_same(&pull, &image)?;
    let asked = origin.blob_gets();
    once_each(&image, &asked).with_context(|| format!("cold pull by {client}"))?;

    client.pull_same(&pull, &image)?;
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

#[test]
fn by_digest() {
    in_lab(|lab| {
        let image = image("library/small:1")?;
        let origin = Origin::start(lab, &Access::Open)?;
        let darner = Darner::start(lab, &[("docker.io", &origin.url())])?;
        let reference = format!("docker.io/library/small@{}", image.digest);
        let pull = Pull::public(lab, &darner, &reference);
        for client in [
            Client::Ctr(containerd::Version::Debian),
            Client::Cri(containerd::Version::V2),
            Client::Docker(docker::Version::Debian),
            Client::Docker(docker::Version::NewContainerdStore),
            Client::Podman,
        ] {
            client.pull_same(&pull, &image)?;
        }
        once_each(&image, &origin.blob_gets())
    });
}
