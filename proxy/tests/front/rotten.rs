//! A bit that flips below the data folder: no client gets it as a whole blob.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use http::StatusCode;
use oci::Digest;

use crate::image::Image;
use crate::node::{Node, PATIENCE, config};
use crate::origin::Origin;
use crate::pull::pull;

/// Flips a bit in the middle, and writes until the file's times show it. Waits for its final name.
async fn flip(folder: &Path, blob: &Bytes) {
    let hex = Digest::sha256(blob).hex();
    let path = folder.join("blobs/sha256").join(&hex[..2]).join(hex);
    let there = async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.unwrap();
    let file = File::options().write(true).open(path).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    let at = blob.len() / 2;
    while file.metadata().unwrap().modified().unwrap() == before {
        file.write_all_at(&[blob[at] ^ 1], at as u64).unwrap();
    }
}

#[tokio::test]
async fn a_rotten_blob_is_cut_or_fetched_within_the_request_and_then_served_right() {
    for restart in [false, true] {
        let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
        let image = Image::new("library/app", 1, 300_000);
        image.push(&origin, "v1");
        let config = config(folder.path(), &[("docker.io", &origin)]);
        let mut node = Node::start(config.clone());
        pull(&node, &image, "v1").await;
        if restart {
            node.stop().await;
            flip(folder.path(), &image.config).await;
            flip(folder.path(), &image.layers[0]).await;
            node = Node::start(config);
        } else {
            flip(folder.path(), &image.config).await;
            flip(folder.path(), &image.layers[0]).await;
        }

        // Nothing of a small one leaves before it is checked, so the client sees no fault at all.
        let small = node.get(&image.blob_path(&image.config)).await;
        assert_eq!((small.status, small.cut), (StatusCode::OK, false));
        assert!(small.body == image.config);
        assert_eq!(small.header("darner-source"), "flight");
        let layer = image.blob_path(&image.layers[0]);
        let large = node.get(&layer).await;
        assert_eq!((large.status, large.cut), (StatusCode::OK, true));
        assert_eq!(large.header("darner-source"), "store");
        let again = node.get(&layer).await;
        assert!(again.body == image.layers[0] && !again.cut);
        let metrics = node.ask_admin("/metrics").await.body;
        let metrics = String::from_utf8_lossy(&metrics).into_owned();
        assert!(metrics.contains("darner_store_rotten_total 2"), "{metrics}");
        node.stop().await;
    }
}
