//! A data folder that cannot take the image: the pull goes through all the same.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::clients::{Client, Pull, containerd, docker};
use crate::support::darner::{Darner, With};
use crate::support::images::image;
use crate::support::origin::{Access, Origin};
use crate::support::{Lab, in_lab, run};

const CLIENTS: [Client; 3] = [
    Client::Cri(containerd::Version::V1_7),
    Client::Docker(docker::Version::Debian),
    Client::Skopeo,
];

/// A file system of its own; unmounted with the lab.
fn file_system(lab: &Lab, options: &str) -> Result<PathBuf> {
    let folder = lab.folder("disk")?;
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(&folder);
    run(&mut mount, Duration::from_secs(10))?;
    Ok(folder)
}

fn pulled_all_the_same(lab: &Lab, with: &With<'_>) -> Result<()> {
    let image = image("library/lab:layers")?;
    let origin = Origin::start(lab, &Access::Open)?;
    let darner = Darner::start_with(lab, &[("docker.io", &origin.url())], with)?;
    let pull = Pull::public(lab, &darner, "docker.io/library/lab:layers");
    for client in CLIENTS {
        client.pull_same(&pull, &image)?;
    }
    Ok(())
}

#[test]
fn a_disk_smaller_than_the_image() {
    in_lab(|lab| {
        let disk = file_system(lab, "size=64m")?;
        pulled_all_the_same(
            lab,
            &With {
                data: Some(&disk),
                ..With::default()
            },
        )
    });
}

#[test]
fn a_cache_smaller_than_the_image() {
    in_lab(|lab| {
        let with = With {
            flags: &["--cache-size", "100MiB"],
            ..With::default()
        };
        pulled_all_the_same(lab, &with)
    });
}
