//! Content to ask for: pushed where the registry under test will find it, or given.

use bytes::Bytes;

use super::{Behind, Stage};
use crate::check::Stop;
use crate::client::{Client, Response};
use crate::origin::{content, sha256, sha512};

/// The OCI image manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The OCI image index.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker's image manifest.
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest list.
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Every type that a manifest may have.
pub(crate) const ANY_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, */*;q=0.1";

/// A blob of a [`Sample`].
#[derive(Clone, Debug)]
pub struct Part {
    /// Its digest.
    pub digest: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// An image to ask for.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Where it is.
    pub repository: String,
    /// A tag that points to it.
    pub tag: String,
    /// Its digest.
    pub digest: String,
    /// Its manifest's bytes.
    pub manifest: Bytes,
    /// Its manifest's type.
    pub media_type: String,
    /// The config.
    pub config: Part,
    /// The layers, in order.
    pub layers: Vec<Part>,
}

impl Sample {
    /// `/v2/<name>/manifests/<tag>`
    pub fn by_tag(&self) -> String {
        manifest_path(&self.repository, &self.tag)
    }

    /// `/v2/<name>/manifests/<digest>`
    pub fn by_digest(&self) -> String {
        manifest_path(&self.repository, &self.digest)
    }

    /// `/v2/<name>/blobs/<digest>` of the first layer.
    pub fn layer_path(&self) -> String {
        blob_path(&self.repository, &self.layers[0].digest)
    }
}

/// `/v2/<name>/blobs/<digest>`
pub(crate) fn blob_path(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// `/v2/<name>/manifests/<reference>`
pub(crate) fn manifest_path(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

impl Stage {
    /// Puts a blob where the registry under test finds it; returns its sha256 digest.
    ///
    /// # Errors
    /// Skips the check where content is given, or cannot be put.
    pub async fn blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Result<String, Stop> {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        self.blob_as(repository, &digest, bytes).await?;
        Ok(digest)
    }

    /// The same, named by its sha512 digest.
    ///
    /// # Errors
    /// As [`Self::blob`].
    pub async fn blob_sha512(
        &self,
        repository: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<String, Stop> {
        let bytes = bytes.into();
        let digest = sha512(&bytes);
        self.blob_as(repository, &digest, bytes).await?;
        Ok(digest)
    }

    async fn blob_as(&self, repository: &str, digest: &str, bytes: Bytes) -> Result<(), Stop> {
        match &self.scene.behind {
            Behind::Scripted(scripted) => {
                scripted.first.push_blob_as(repository, digest, bytes);
                Ok(())
            }
            Behind::Writable(client) => push_blob(client, repository, digest, bytes).await,
            Behind::Given { .. } => Err(given()),
        }
    }

    /// Puts a manifest where the registry under test finds it, under its digest and `tag`;
    /// returns the digest.
    ///
    /// # Errors
    /// As [`Self::blob`].
    pub async fn manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<String, Stop> {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        match &self.scene.behind {
            Behind::Scripted(scripted) => {
                scripted
                    .first
                    .push_manifest(repository, tag, media_type, bytes);
            }
            Behind::Writable(client) => {
                let path = manifest_path(repository, tag.unwrap_or(&digest));
                put_manifest(client, &path, media_type, bytes).await?;
            }
            Behind::Given { .. } => return Err(given()),
        }
        Ok(digest)
    }

    /// The same without a tag, named by its sha512 digest.
    ///
    /// # Errors
    /// As [`Self::blob`].
    pub async fn manifest_sha512(
        &self,
        repository: &str,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<String, Stop> {
        let bytes = bytes.into();
        let digest = sha512(&bytes);
        match &self.scene.behind {
            Behind::Scripted(scripted) => {
                let first = &scripted.first;
                first.push_manifest_as(repository, &digest, media_type, bytes);
            }
            Behind::Writable(client) => {
                let path = manifest_path(repository, &digest);
                put_manifest(client, &path, media_type, bytes).await?;
            }
            Behind::Given { .. } => return Err(given()),
        }
        Ok(digest)
    }

    /// An image with one layer of 64 KiB, or the image that is given.
    ///
    /// # Errors
    /// Skips the check where there is none.
    pub async fn image(&self) -> Result<Sample, Stop> {
        self.image_of(&[content(1, 64 << 10)]).await
    }

    /// An image with these layers in a repository of its own, tagged `latest`, or the image that
    /// is given.
    ///
    /// # Errors
    /// Skips the check where there is none.
    pub async fn image_of(&self, layers: &[Bytes]) -> Result<Sample, Stop> {
        if let Behind::Given {
            repository,
            tag,
            reference,
        } = &self.scene.behind
        {
            let reference = reference.as_ref().unwrap_or(&self.mirror);
            return discover(reference, repository, tag).await;
        }
        self.image_in(&self.repository(), "latest", layers).await
    }

    /// An image with these layers, put into this repository.
    ///
    /// # Errors
    /// As [`Self::blob`].
    pub async fn image_in(
        &self,
        repository: &str,
        tag: &str,
        layers: &[Bytes],
    ) -> Result<Sample, Stop> {
        let mut parts = Vec::new();
        for bytes in layers {
            let digest = self.blob(repository, bytes.clone()).await?;
            let bytes = bytes.clone();
            parts.push(Part { digest, bytes });
        }
        let of = parts.iter().map(|part| part.digest.as_str());
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": of.collect::<Vec<_>>() },
        });
        let config = Bytes::from(config.to_string());
        let config = Part {
            digest: self.blob(repository, config.clone()).await?,
            bytes: config,
        };
        let manifest = Bytes::from(image_manifest(&config, &parts).to_string());
        let digest = self
            .manifest(repository, Some(tag), MANIFEST, manifest.clone())
            .await?;
        Ok(Sample {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest,
            manifest,
            media_type: MANIFEST.to_owned(),
            config,
            layers: parts,
        })
    }
}

/// The manifest of an image of these parts.
pub(crate) fn image_manifest(config: &Part, layers: &[Part]) -> serde_json::Value {
    let layers: Vec<_> = layers
        .iter()
        .map(|part| descriptor("application/vnd.oci.image.layer.v1.tar", part))
        .collect();
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    })
}

/// A descriptor as manifests list it.
pub(crate) fn descriptor(media_type: &str, part: &Part) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type, "digest": part.digest, "size": part.bytes.len(),
    })
}

/// Uploads a blob by POST and PUT.
pub(crate) async fn push_blob(
    client: &Client,
    repository: &str,
    digest: &str,
    bytes: Bytes,
) -> Result<(), Stop> {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let begun = client.request("POST", &path).send().await?;
    taken("upload", &begun)?;
    let Some(location) = begun.header("location") else {
        return Err(Stop::Skip("an upload has no Location".to_owned()));
    };
    let sign = if location.contains('?') { '&' } else { '?' };
    let request = client
        .request("PUT", &format!("{location}{sign}digest={digest}"))
        .header("Content-Type", "application/octet-stream")
        .body(bytes);
    taken("blob", &request.send().await?)
}

async fn put_manifest(
    client: &Client,
    path: &str,
    media_type: &str,
    bytes: Bytes,
) -> Result<(), Stop> {
    let request = client.request("PUT", path);
    let request = request.header("Content-Type", media_type).body(bytes);
    taken("manifest", &request.send().await?)
}

fn taken(what: &str, answer: &Response) -> Result<(), Stop> {
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    Err(Stop::Skip(format!(
        "what is to be asked for could not be put there: the {what} was answered {}",
        answer.status
    )))
}

fn given() -> Stop {
    Stop::Skip("needs content of its own: --write, or --upstream".to_owned())
}

/// Reads the given image, following an index to its first image.
async fn discover(client: &Client, repository: &str, tag: &str) -> Result<Sample, Stop> {
    let mut reference = tag.to_owned();
    for _ in 0..4 {
        let request = client.get(&manifest_path(repository, &reference));
        let answer = request.header("Accept", ANY_MANIFEST).send().await?;
        if answer.status != 200 {
            let status = answer.status;
            let name = format!("{repository}:{reference}");
            return Err(Stop::Skip(format!(
                "{name} is answered {status}: nothing to ask for"
            )));
        }
        let json = answer.json();
        if let Some(child) = json["manifests"][0]["digest"].as_str() {
            reference = child.to_owned();
            continue;
        }
        let config = part(client, repository, &json["config"]["digest"]).await?;
        let mut layers = Vec::new();
        for layer in json["layers"].as_array().into_iter().flatten() {
            layers.push(part(client, repository, &layer["digest"]).await?);
        }
        if layers.is_empty() {
            return Err(Stop::Skip(format!("{repository}:{tag} has no layers")));
        }
        return Ok(Sample {
            repository: repository.to_owned(),
            // By a digest that came out of an index no tag points to the image itself.
            tag: reference,
            digest: sha256(&answer.body),
            media_type: answer.header("content-type").unwrap_or_default().to_owned(),
            manifest: answer.body.into(),
            config,
            layers,
        });
    }
    Err(Stop::Skip(format!(
        "{repository}:{tag} is an index of indexes of indexes"
    )))
}

async fn part(client: &Client, repository: &str, digest: &serde_json::Value) -> Result<Part, Stop> {
    let digest = digest.as_str().unwrap_or_default();
    let answer = client.get(&blob_path(repository, digest)).send().await?;
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(Part {
            digest: digest.to_owned(),
            bytes: answer.body.into(),
        });
    }
    let place = answer.header("location").unwrap_or_default();
    let answer = client.request("GET", place).plain().send().await?;
    Ok(Part {
        digest: digest.to_owned(),
        bytes: answer.body.into(),
    })
}
