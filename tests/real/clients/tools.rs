//! podman and skopeo: no daemon, one command each.

use anyhow::{Context, Result};
use serde_json::json;

use super::{PULL, Pull, basic, command, files};
use crate::support::images::digest_of;
use crate::support::run;

/// Where both look for a user's registries, below the home folder.
const CONF_D: &str = ".config/containers/registries.conf.d";

/// `podman pull`; the digest is the one of what the reference named.
pub(crate) fn podman_pull(pull: &Pull<'_>) -> Result<String> {
    let folder = pull.lab.folder("pod")?;
    files::set_up("podman", pull, &folder.join(CONF_D))?;
    std::fs::write(
        folder.join("policy.json"),
        r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
    )?;
    let login = folder.join("auth.json");
    let mut auths = json!({"auths": {}});
    if let Some((user, password)) = pull.account {
        // podman looks a mirror's account up by the mirror's own address.
        auths["auths"][pull.darner.addr.to_string()] = json!({"auth": basic(user, password)});
    }
    std::fs::write(&login, auths.to_string())?;
    let podman = |words: &[&str]| {
        let mut podman = command("podman");
        podman
            .env("HOME", &folder)
            .env("TMPDIR", &folder)
            .env("REGISTRY_AUTH_FILE", &login);
        podman
            .arg("--root")
            .arg(folder.join("root"))
            .arg("--runroot")
            .arg(folder.join("run"));
        podman
            .args([
                "--storage-driver=overlay",
                "--events-backend=none",
                "--cgroup-manager=cgroupfs",
            ])
            .args(words);
        run(&mut podman, PULL)
    };
    let policy = folder.join("policy.json");
    let policy = policy.to_str().context("a plain path")?;
    podman(&["pull", "--quiet", "--signature-policy", policy, pull.image])?;
    Ok(
        podman(&["image", "inspect", "--format", "{{.Digest}}", pull.image])?
            .trim()
            .to_owned(),
    )
}

/// `skopeo copy docker://... dir:...` of the whole reference; the digest is that of the manifest it wrote.
pub(crate) fn skopeo_pull(pull: &Pull<'_>) -> Result<String> {
    let folder = pull.lab.folder("skp")?;
    files::set_up("podman", pull, &folder.join(CONF_D))?;
    let to = folder.join("image");
    let mut skopeo = command("skopeo");
    skopeo.env("HOME", &folder).arg("--tmpdir").arg(&folder);
    skopeo.args([
        "--insecure-policy",
        "--override-arch=amd64",
        "copy",
        "--quiet",
        "--all",
    ]);
    skopeo
        .arg(format!("docker://{}", pull.image))
        .arg(format!("dir:{}", to.display()));
    run(&mut skopeo, PULL)?;
    Ok(digest_of(&std::fs::read(to.join("manifest.json"))?))
}
