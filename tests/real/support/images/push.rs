//! Pushing: manifests, indexes and blobs over a registry's own HTTP.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::layers::Layer;
use super::{Blob, Image, digest_of};
use crate::support::http;

/// Media types of one family.
pub(super) struct Family {
    manifest: &'static str,
    config: &'static str,
    /// A layer's, before `.<kind>`.
    layer: &'static str,
}

/// OCI's own.
pub(super) const OCI: &Family = &Family {
    manifest: "application/vnd.oci.image.manifest.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1",
};
/// Docker's, with a dot where OCI writes a plus.
pub(super) const DOCKER: &Family = &Family {
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff",
};
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Pushes into the docker-registry at an address.
pub(super) struct Push {
    addr: SocketAddr,
}

/// A manifest that was pushed by digest, and what it names.
pub(super) struct Manifest {
    bytes: Vec<u8>,
    family: &'static Family,
    blobs: Vec<Blob>,
}

impl Push {
    /// Pushes to the registry at this address.
    pub(super) fn to(addr: SocketAddr) -> Self {
        Self { addr }
    }

    pub(super) fn manifest(
        &self,
        repository: &str,
        family: &'static Family,
        arch: &str,
        layers: &[&Layer],
    ) -> Result<Manifest> {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": arch, "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .into_bytes();
        let mut blobs = vec![Blob {
            digest: digest_of(&config),
            size: config.len() as u64,
        }];
        self.blob(repository, &blobs[0].digest, &config)?;
        for layer in layers {
            self.blob(repository, &layer.blob.digest, &std::fs::read(&layer.file)?)?;
            blobs.push(layer.blob.clone());
        }
        let described: Vec<Value> = layers
            .iter()
            .map(|layer| {
                // Docker writes a dot where OCI writes a plus.
                let kind = if family.layer == DOCKER.layer { layer.kind.replace('+', ".") } else { layer.kind.to_owned() };
                json!({"mediaType": format!("{}.{kind}", family.layer), "digest": layer.blob.digest, "size": layer.blob.size})
            })
            .collect();
        let bytes = json!({
            "schemaVersion": 2, "mediaType": family.manifest,
            "config": {"mediaType": family.config, "digest": blobs[0].digest, "size": blobs[0].size},
            "layers": described,
        })
        .to_string()
        .into_bytes();
        self.put(repository, &digest_of(&bytes), family.manifest, &bytes)?;
        Ok(Manifest {
            bytes,
            family,
            blobs,
        })
    }

    pub(super) fn tagged(
        &self,
        repository: &str,
        tag: &str,
        family: &'static Family,
        layers: &[&Layer],
    ) -> Result<Image> {
        let manifest = self.manifest(repository, family, "amd64", layers)?;
        self.put(repository, tag, manifest.family.manifest, &manifest.bytes)?;
        let digest = digest_of(&manifest.bytes);
        Ok(Image {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest,
            blobs: manifest.blobs,
        })
    }

    pub(super) fn index(
        &self,
        repository: &str,
        tag: &str,
        amd64: &Manifest,
        arm64: &Manifest,
    ) -> Result<Image> {
        let entry = |manifest: &Manifest, arch: &str| {
            json!({"mediaType": manifest.family.manifest, "digest": digest_of(&manifest.bytes), "size": manifest.bytes.len(),
                "platform": {"architecture": arch, "os": "linux"}})
        };
        let bytes = json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(arm64, "arm64"), entry(amd64, "amd64")],
        })
        .to_string()
        .into_bytes();
        self.put(repository, tag, INDEX, &bytes)?;
        let blobs = amd64.blobs.clone();
        Ok(Image {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest: digest_of(&bytes),
            blobs,
        })
    }

    fn put(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let answer = http::request(
            self.addr,
            "PUT",
            &path,
            &[("Content-Type", media_type)],
            bytes,
        )?;
        let status = answer.status;
        ensure!(
            status == 201,
            "PUT {path}: {status} {}",
            String::from_utf8_lossy(&answer.body()?)
        );
        Ok(())
    }

    fn blob(&self, repository: &str, digest: &str, bytes: &[u8]) -> Result<()> {
        let started = http::request(
            self.addr,
            "POST",
            &format!("/v2/{repository}/blobs/uploads/"),
            &[],
            &[],
        )?;
        let location = started.header("location").context("a Location")?;
        let path = location
            .find("/v2/")
            .map(|at| &location[at..])
            .context("a path in Location")?;
        let path = format!("{path}&digest={}", digest.replace(':', "%3A"));
        let answer = http::request(self.addr, "PUT", &path, &[], bytes)?;
        let status = answer.status;
        ensure!(
            status == 201,
            "PUT {path}: {status} {}",
            String::from_utf8_lossy(&answer.body()?)
        );
        Ok(())
    }
}
