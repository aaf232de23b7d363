//! A range deep in a cold blob of a real registry: answered at once, by itself.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::clients::{Client, Pull, containerd};
use crate::support::darner::Darner;
use crate::support::images::{blob_file, image, storage};
use crate::support::origin::{Access, Origin};
use crate::support::relay::Relay;
use crate::support::{http, in_lab};

#[test]
fn a_range_in_the_middle_of_a_cold_blob_does_not_wait_for_its_beginning() {
    in_lab(|lab| {
        let image = image("library/lab:layers")?;
        let blob = image.biggest()?;
        let origin = Origin::start(lab, &Access::Open)?;
        let relay = Relay::start(origin.addr)?;
        // The beginning alone would take minutes.
        relay.limit(1 << 20);
        let darner = Darner::start(lab, &[("docker.io", &relay.url())])?;
        let (start, end) = (blob.size / 2, blob.size / 2 + 65_535);
        let asked = Instant::now();
        let range = format!("bytes={start}-{end}");
        let answer = http::get(darner.addr, &image.blob_path(blob), &[("Range", &range)])?;
        ensure!(answer.status == 206, "a range is {}", answer.status);
        let content_range = answer
            .header("content-range")
            .unwrap_or_default()
            .to_owned();
        ensure!(
            content_range == format!("bytes {start}-{end}/{}", blob.size),
            "Content-Range: {content_range}"
        );
        let body = answer.body()?;
        let took = asked.elapsed();
        let whole = std::fs::read(blob_file(&storage()?, &blob.digest)?)?;
        ensure!(
            body == whole[usize::try_from(start)?..=usize::try_from(end)?],
            "the range has other bytes"
        );
        ensure!(took < Duration::from_secs(20), "it took {took:?}");
        Ok(())
    });
}

#[test]
fn the_first_byte_of_a_cold_blob_does_not_wait_for_its_end() {
    in_lab(|lab| {
        let image = image("library/lab:layers")?;
        let blob = image.biggest()?;
        let origin = Origin::start(lab, &Access::Open)?;
        let relay = Relay::start(origin.addr)?;
        relay.limit(4 << 20);
        let darner = Darner::start(lab, &[("docker.io", &relay.url())])?;
        let mut answer = http::get(darner.addr, &image.blob_path(blob), &[])?;
        ensure!(answer.status == 200, "a cold blob is {}", answer.status);
        ensure!(!answer.next()?.is_empty(), "no first byte");
        let passed = relay.bytes();
        ensure!(
            passed < blob.size / 4,
            "{passed} of {} bytes had come from upstream before the first was handed on",
            blob.size
        );
        Ok(())
    });
}

#[test]
fn layers_fetched_by_several_open_ranges_at_once_cost_upstream_little_more_than_once() {
    in_lab(|lab| {
        let image = image("library/lab:zstd")?;
        let origin = Origin::start(lab, &Access::Open)?;
        let relay = Relay::start(origin.addr)?;
        let darner = Darner::start(lab, &[("docker.io", &relay.url())])?;
        let pull = Pull::public(lab, &darner, "docker.io/library/lab:zstd");
        Client::Cri(containerd::Version::V2Ranges).pull_same(&pull, &image)?;
        let (bytes, size) = (relay.bytes(), image.size());
        ensure!(
            bytes * 10 <= size * 13,
            "upstream sent {bytes} bytes for an image of {size}: {:#?}",
            origin.blob_gets()
        );
        Ok(())
    });
}
