//! Whether the machine lets these settings work: the data folder can be written, the ports are
//! free, the files exist. Leaves nothing behind. The start itself finds the same by failing.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use crate::config::key::Role;
use crate::config::settings::Settings;
use crate::failure::Failure;

/// Everything that `--check` looks at beyond the settings' own sense.
pub(crate) fn machine(settings: &Settings) -> Result<(), Failure> {
    data_dir(&settings.data_dir)?;
    for registry in settings.registries.values() {
        for ca in registry.endpoints.iter().filter_map(|e| e.ca.as_ref()) {
            readable(ca, "ca")?;
        }
        for account in &registry.accounts {
            for (file, key) in [
                (&account.password_file, "password-file"),
                (&account.docker_config, "docker-config"),
            ] {
                if let Some(path) = file {
                    readable(path, key)?;
                }
            }
        }
    }
    for address in &settings.listen {
        free(*address, "--listen")?;
    }
    let admin = match settings.role {
        Role::Supernode => "--control",
        Role::Up | Role::Proxy => "--admin",
    };
    free(settings.admin, admin)?;
    if let Some(address) = settings.peer_listen {
        free(address, "--peer-listen")?;
    }
    for port in [supernode::LISTEN_PORT, supernode::CONTROL_PORT] {
        if let Some(address) = settings.swarm {
            free(SocketAddr::new(address, port), "--swarm")?;
        }
    }
    Ok(())
}

/// The folder, or the nearest one above it that exists, takes a file.
fn data_dir(folder: &Path) -> Result<(), Failure> {
    let existing = folder
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"));
    let probe = existing.join(format!(".darner-check-{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)
        .and_then(|_| fs::remove_file(&probe));
    written.map_err(|error| unwritable(folder, &error))
}

/// The data folder cannot be used.
pub(crate) fn unwritable(folder: &Path, error: &io::Error) -> Failure {
    let folder = folder.display();
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => "may not be written by this user".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "is on a read-only file system".to_owned(),
        io::ErrorKind::StorageFull => "is on a file system without free space".to_owned(),
        io::ErrorKind::NotADirectory => "is not a folder".to_owned(),
        _ => format!("cannot be written: {error}"),
    };
    Failure::usage(format!("the data folder {folder} {why}"))
        .hint("choose another with --data-dir DIR, or make this one writable")
}

fn readable(path: &Path, key: &str) -> Result<(), Failure> {
    fs::File::open(path).map(drop).map_err(|error| {
        Failure::usage(format!("{key} {} cannot be read: {error}", path.display()))
            .hint(format!("put the file there or change {key}"))
    })
}

fn free(address: SocketAddr, flag: &str) -> Result<(), Failure> {
    TcpListener::bind(address)
        .map(drop)
        .map_err(|error| unbound(address, flag, &error))
}

/// A port cannot be listened on.
pub(crate) fn unbound(address: SocketAddr, flag: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure::usage(format!(
            "{address} is already in use, perhaps by another darner"
        ))
        .hint(match flag {
            "--swarm" => format!(
                "the supernode's ports are fixed; see who has {0}: ss -ltnp 'sport = :{0}'",
                address.port()
            ),
            _ => format!(
                "choose another port with {flag} {}, or see who has it: ss -ltnp 'sport = :{}'",
                SocketAddr::new(address.ip(), address.port().wrapping_add(10).max(1024)),
                address.port()
            ),
        }),
        io::ErrorKind::AddrNotAvailable => Failure::usage(format!(
            "{} is not an address of this machine",
            address.ip()
        ))
        .hint(format!("choose one that `ip address` shows, with {flag}")),
        io::ErrorKind::PermissionDenied => Failure::usage(format!(
            "this user may not listen on port {}",
            address.port()
        ))
        .hint(format!("choose a port of 1024 or above with {flag}")),
        _ => Failure::usage(format!("{address} cannot be listened on: {error}"))
            .hint(format!("choose another address with {flag}")),
    }
}
