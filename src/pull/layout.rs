//! An OCI image layout in a folder (image-spec v1.1.1 "Image Layout").
//!
//! Invariant: what lies under a digest's name has that digest, for it is written under another name
//! and renamed; the index is written last, so an image that it names is whole. A folder that holds
//! something else is left alone. All of this blocks for the disk.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use oci::{Digest, Hasher, Platform};
use serde_json::{Map, Value, json};

use crate::failure::Failure;

const MARK: &str = "oci-layout";
const INDEX: &str = "index.json";
/// The tag, for skopeo and podman.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, for containerd and docker.
const IMAGE_NAME: &str = "io.containerd.image.name";
const READ_BYTES: usize = 1 << 20;

/// A layout.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

/// What the index says about an image.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    /// Type of the manifest.
    pub(crate) media_type: &'a str,
    /// The manifest.
    pub(crate) digest: &'a Digest,
    /// Its size in bytes.
    pub(crate) size: usize,
    /// If it was chosen from several.
    pub(crate) platform: Option<&'a Platform>,
    /// The tag and the name with the tag, if it was asked by a tag.
    pub(crate) named: Option<(String, String)>,
}

impl Layout {
    /// The layout in `root`, made if there is none.
    pub(crate) fn open(root: &Path) -> Result<Self, Failure> {
        let layout = Self {
            root: root.to_owned(),
        };
        let mark = root.join(MARK);
        let strange = || -> io::Result<bool> {
            if !root.exists() || mark.exists() {
                return Ok(false);
            }
            Ok(fs::read_dir(root)?.next().is_some())
        };
        if strange().map_err(|error| layout.failed(&error))? {
            return Err(Failure::usage(format!(
                "{} holds something that is not an OCI image layout",
                root.display()
            ))
            .hint("name an empty folder or a new one with -o"));
        }
        let make = || -> io::Result<()> {
            fs::create_dir_all(root.join("blobs"))?;
            if !mark.exists() {
                layout.replace(MARK, b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
            }
            if !root.join(INDEX).exists() {
                layout.write_index(&[])?;
            }
            Ok(())
        };
        make().map_err(|error| layout.failed(&error))?;
        Ok(layout)
    }

    /// Whether the blob is there and its digest fits; one that does not fit is removed.
    pub(crate) fn has(&self, digest: &Digest, size: Option<u64>) -> Result<Option<u64>, Failure> {
        let path = self.blob(digest);
        let look = || -> io::Result<Option<u64>> {
            let mut file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let length = file.metadata()?.len();
            if size.is_none_or(|size| size == length) && hash(&mut file, digest)? == *digest {
                return Ok(Some(length));
            }
            fs::remove_file(&path)?;
            Ok(None)
        };
        look().map_err(|error| self.failed(&error))
    }

    /// A blob that is about to arrive.
    pub(crate) fn incoming(&self, digest: &Digest) -> Result<Incoming, Failure> {
        let target = self.blob(digest);
        let made = match target.parent() {
            Some(folder) => fs::create_dir_all(folder),
            None => Ok(()),
        };
        made.and_then(|()| self.arriving(&digest.short(), target))
            .map_err(|error| self.failed(&error))
    }

    /// A whole document, whose digest has been checked.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Failure> {
        let mut incoming = self.incoming(digest)?;
        let written = incoming.write(bytes).and_then(|()| incoming.keep());
        written.map_err(|error| self.failed(&error))
    }

    /// Names an image in the index; one of the same name is replaced, all others stay.
    pub(crate) fn name(&self, entry: &Entry<'_>) -> Result<(), Failure> {
        let digest = entry.digest.to_string();
        let mut kept = self.read_index()?;
        kept.retain(|old| {
            let annotation = |key| old["annotations"][key].as_str();
            match &entry.named {
                Some((tag, name)) => match annotation(IMAGE_NAME) {
                    Some(old) => old != name,
                    None => annotation(REF_NAME) != Some(tag),
                },
                None => old["digest"] != json!(digest) || !old["annotations"].is_null(),
            }
        });
        let mut new = Map::from_iter([
            ("mediaType".to_owned(), json!(entry.media_type)),
            ("digest".to_owned(), json!(digest)),
            ("size".to_owned(), json!(entry.size)),
        ]);
        if let Some(platform) = entry.platform {
            let mut said = json!({"architecture": platform.architecture, "os": platform.os});
            if !platform.variant.is_empty() {
                said["variant"] = json!(platform.variant);
            }
            new.insert("platform".to_owned(), said);
        }
        if let Some((tag, name)) = &entry.named {
            let said = json!({(REF_NAME): tag, (IMAGE_NAME): name});
            new.insert("annotations".to_owned(), said);
        }
        kept.push(Value::Object(new));
        let written = self.write_index(&kept);
        written.map_err(|error| self.failed(&error))
    }

    fn read_index(&self) -> Result<Vec<Value>, Failure> {
        let bytes = fs::read(self.root.join(INDEX)).map_err(|error| self.failed(&error))?;
        let index: Option<Value> = serde_json::from_slice(&bytes).ok();
        let list = index.and_then(|mut index| match index["manifests"].take() {
            Value::Array(list) => Some(list),
            _ => None,
        });
        list.ok_or_else(|| {
            Failure::new(format!(
                "{} is not the index of an image layout",
                self.root.join(INDEX).display()
            ))
            .hint("name an empty folder or a new one with -o")
        })
    }

    fn write_index(&self, manifests: &[Value]) -> io::Result<()> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": oci::media_type::OCI_INDEX,
            "manifests": manifests,
        });
        self.replace(INDEX, index.to_string().as_bytes())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut incoming = self.arriving(name, self.root.join(name))?;
        incoming.write(bytes)?;
        incoming.keep()
    }

    fn arriving(&self, name: &str, target: PathBuf) -> io::Result<Incoming> {
        let temporary = format!(".{name}-{}.part", std::process::id());
        let temporary = self.root.join(temporary);
        Ok(Incoming {
            file: File::create(&temporary)?,
            temporary,
            target,
        })
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let folder = self.root.join("blobs").join(digest.algorithm().name());
        folder.join(digest.hex())
    }

    /// The folder cannot be written or read.
    pub(crate) fn failed(&self, error: &io::Error) -> Failure {
        Failure::new(format!("{}: {error}", self.root.display()))
            .hint("name a folder with room that this user may write with -o")
    }
}

/// A blob on its way; dropped before it is kept, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Incoming {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl Incoming {
    /// Takes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Gives it its name. The digest has been checked.
    pub(crate) fn keep(&mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Kept, it has another name by now.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn hash(file: &mut File, digest: &Digest) -> io::Result<Digest> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut room = vec![0; READ_BYTES];
    loop {
        match file.read(&mut room)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&room[..read]),
        }
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
