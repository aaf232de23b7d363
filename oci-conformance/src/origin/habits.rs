//! What registries may do in more than one way, and how this one does it.

/// The habits of an origin. The default is all that the specification offers.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Whether the referrers API is there; without it 404, and no `OCI-Subject`.
    pub referrers: bool,
    /// Most entries of a page of tags or referrers.
    pub page: Option<usize>,
    /// Whether `n` and `last` are heeded; docker-registry 2.8 does not heed `last`.
    pub pages: bool,
    /// Whether manifests, tags and blobs may be deleted; else 405.
    pub deletes: bool,
    /// Longest manifest in bytes; beyond it 413.
    pub manifest_max: usize,
    /// `OCI-Chunk-Min-Length`.
    pub chunk_min: Option<u64>,
    /// Whether blobs are mounted; else every mount begins an upload.
    pub mounts: bool,
    /// Where uploads are said to be.
    pub locations: Locations,
    /// A `Warning` line of every answer.
    pub warning: Option<String>,
}

/// The form of an upload's `Location`. Each holds a query without which the upload is not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locations {
    /// `/v2/name/blobs/uploads/id?_state=...`
    Relative,
    /// The same with scheme, host and port, as docker-registry has it.
    Absolute,
    /// At another host, outside of the registry's API: this base, and `/storage/id?signature=...`.
    /// An origin takes its own uploads there too, from whoever has the signature.
    Storage(String),
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            referrers: true,
            page: None,
            pages: true,
            deletes: true,
            manifest_max: 4 << 20,
            chunk_min: None,
            mounts: true,
            locations: Locations::Relative,
            warning: None,
        }
    }
}
