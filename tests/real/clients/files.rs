//! The clients' own configuration files that point them at the mirror.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

/// `<folder>/<registry>/hosts.toml` for containerd.
///
/// The mirror is also the `server`: nothing is behind it, so a test sees what the mirror did.
pub(crate) fn hosts_toml(folder: &Path, registry: &str, mirror: SocketAddr) -> Result<()> {
    let folder = folder.join(registry);
    std::fs::create_dir_all(&folder)?;
    let text = format!(
        "server = \"http://{mirror}\"\n[host.\"http://{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    );
    Ok(std::fs::write(folder.join("hosts.toml"), text)?)
}

/// registries.conf for podman and skopeo; a registry other than Docker Hub is reached by its name in the path.
pub(crate) fn registries_conf(file: &Path, registry: &str, mirror: SocketAddr) -> Result<()> {
    let location = if registry == "docker.io" {
        mirror.to_string()
    } else {
        format!("{mirror}/{registry}")
    };
    let text = format!(
        "[[registry]]\nprefix = \"{registry}\"\nlocation = \"{registry}\"\n[[registry.mirror]]\nlocation = \
         \"{location}\"\ninsecure = true\n"
    );
    Ok(std::fs::write(file, text)?)
}
