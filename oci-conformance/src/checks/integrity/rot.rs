//! Bits that flip in the mirror's own files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::check::{Finding, Stop, must, skip};
use crate::checks::watch::whole;
use crate::stage::Stage;
use crate::stage::content::blob_path;

const SIZE: usize = 4 << 20;
/// Bytes of the blob that are looked for in the files.
const SAMPLE: usize = 64;

pub(super) async fn flipped_bit(stage: &Stage) -> Finding {
    stage.origin()?;
    let process = stage.process()?;
    for stopped in [true, false] {
        let bytes = stage.fresh(SIZE);
        let repository = stage.repository();
        let path = blob_path(&repository, &stage.blob(&repository, bytes.clone()).await?);
        whole("the blob", &stage.mirror.get(&path).send().await?, &bytes)?;
        let mut places = Vec::new();
        let looking = stage
            .within_ttl("its bytes lie below the data folder", async || {
                places = find(&process.data(), &bytes);
                Ok(!places.is_empty())
            })
            .await;
        if looking.is_err() {
            skip!("no file below the data folder has the blob's bytes as they are");
        }
        if stopped {
            process.stop().await;
        }
        for (file, at) in &places {
            flip(file, *at).map_err(|error| unreadable(&error))?;
        }
        if stopped {
            let started = process.start_again().await;
            must!(
                started.is_ok(),
                "with a flipped bit it does not start: {started:?}"
            );
        }
        let when = if stopped {
            "while it was stopped"
        } else {
            "while it ran"
        };
        stage
            .within_ttl("the blob is had anew", async || {
                let answer = stage.mirror.get(&path).send().await?;
                if answer.status != 200 || !answer.complete() {
                    return Ok(false);
                }
                whole(
                    &format!("a blob of which a bit flipped {when}"),
                    &answer,
                    &bytes,
                )?;
                Ok(true)
            })
            .await?;
    }
    Ok(())
}

/// Where the middle of these bytes is in the files below a folder: in files that have the blob as
/// it is, else in any.
fn find(folder: &Path, blob: &[u8]) -> Vec<(PathBuf, u64)> {
    let (middle, mut files, mut found) = (blob.len() / 2, Vec::new(), Vec::new());
    list(folder, &mut files);
    let sample = &blob[middle..middle + SAMPLE];
    let mut came = [0; SAMPLE];
    for path in &files {
        // What is being replaced meanwhile is not what is looked for.
        let read = File::open(path).and_then(|file| file.read_exact_at(&mut came, middle as u64));
        if read.is_ok() && came == sample {
            found.push((path.clone(), middle as u64));
        }
    }
    if !found.is_empty() {
        return found;
    }
    for path in files {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let at = bytes.windows(SAMPLE).position(|window| window == sample);
        found.extend(at.map(|at| (path, at as u64)));
    }
    found
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn flip(path: &Path, at: u64) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 1], at)
}

fn unreadable(error: &io::Error) -> Stop {
    Stop::Skip(format!("the data folder cannot be worked with: {error}"))
}
