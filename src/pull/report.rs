//! What a pull says at its end: one line, or JSON.

use std::path::Path;
use std::time::Duration;

use oci::ImageName;
use serde::Serialize;

use crate::pull::board::{Board, Sources};
use crate::pull::plan::{PartKind, Plan};
use crate::status::short_size;

/// A pull that succeeded.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The whole name.
    image: String,
    /// Of the manifest, or of the blob.
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    /// Bytes of manifests and blobs.
    bytes: u64,
    seconds: f64,
    manifests: usize,
    parts: Vec<PartReport>,
    /// Of all parts of which the node told it.
    sources: Sources,
    /// The folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<String>,
}

#[derive(Debug, Serialize)]
struct PartReport {
    kind: PartKind,
    digest: String,
    bytes: u64,
    seconds: f64,
    /// It lay in the layout and was not fetched.
    already: bool,
    /// `null`: the node did not tell.
    sources: Option<Sources>,
}

impl Report {
    /// Of what is whole.
    pub(crate) fn new(name: &ImageName, plan: &Plan, board: &Board, layout: Option<&Path>) -> Self {
        let mut sources = Sources::default();
        let part = |(part, state): (&crate::pull::plan::Part, crate::pull::board::State)| {
            if let Some(told) = &state.sources {
                sources.add(told);
            }
            PartReport {
                kind: part.kind,
                digest: part.digest.to_string(),
                bytes: state.size.unwrap_or_default(),
                seconds: rounded(state.took.unwrap_or_default()),
                already: state.already,
                sources: state.sources,
            }
        };
        let parts: Vec<PartReport> = board.parts().map(part).collect();
        let manifests = || plan.root.iter().chain(&plan.others);
        let digest = plan.root.as_ref().map(|root| root.digest.to_string());
        let first = parts.first().map(|part| part.digest.clone());
        let documents: u64 = manifests().map(|m| m.bytes.len() as u64).sum();
        Self {
            image: name.to_string(),
            digest: digest.or(first).unwrap_or_default(),
            platform: plan.platform.as_ref().map(ToString::to_string),
            bytes: documents + parts.iter().map(|part| part.bytes).sum::<u64>(),
            seconds: rounded(board.elapsed()),
            manifests: manifests().count(),
            parts,
            sources,
            layout: layout.map(|folder| folder.display().to_string()),
        }
    }

    /// As JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and numbers are JSON")
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        let platform = self.platform.as_ref();
        let platform = platform.map_or_else(String::new, |platform| format!(" for {platform}"));
        let layout = self.layout.as_ref();
        let layout = layout.map_or_else(String::new, |folder| format!(" into {folder}"));
        let words = self.sources.words();
        let from = if words.is_empty() {
            words
        } else {
            format!(", {words}")
        };
        format!(
            "pulled {}{platform}{layout}: {} in {:.1} s{from}\n{}",
            self.image,
            short_size(self.bytes),
            self.seconds,
            self.digest
        )
    }
}

/// To the millisecond.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000.0).round() / 1_000.0
}
