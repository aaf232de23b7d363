//! Private images for clients that cannot send credentials to a mirror: Darner's own account, or the ping's challenge.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::clients::{Client, Pull, basic, containerd, docker};
use crate::support::darner::{Darner, With};
use crate::support::images::image;
use crate::support::origin::{Access, Origin};
use crate::support::token::{ACCOUNT, TokenServer};
use crate::support::{Lab, http, in_lab};

const PRIVATE: &str = "docker.io/private/lab:1";

/// Clients without credentials pull what the account's patterns name, and nothing else that is private.
fn reads_by_its_own_account(
    lab: &Lab,
    origin: &Origin,
    account: &str,
    with: &With<'_>,
) -> Result<()> {
    let image = image("private/lab:1")?;
    let file = |repositories: &str| {
        format!(
            "{}[registry.\"docker.io\".account]\nrepositories = [\"{repositories}\"]\n{account}\n",
            origin.file()
        )
    };
    let registries = [("docker.io", &*origin.url())];
    let darner = Darner::start_with(
        lab,
        &registries,
        &With {
            file: &file("private/*"),
            ..*with
        },
    )?;
    let pull = Pull::public(lab, &darner, PRIVATE);
    for client in [
        Client::Docker(docker::Version::Debian),
        Client::Podman,
        Client::Cri(containerd::Version::V1_7),
    ] {
        client.pull_same(&pull, &image)?;
    }
    let darner = Darner::start_with(
        lab,
        &registries,
        &With {
            file: &file("other/*"),
            ..*with
        },
    )?;
    let refused = http::get(darner.addr, "/v2/private/lab/manifests/1", &[])?;
    ensure!(
        refused.status == 401,
        "a repository that the account is not for is {}",
        refused.status
    );
    Ok(())
}

#[test]
fn own_account_by_token() {
    in_lab(|lab| {
        let tokens = TokenServer::start(lab)?;
        let origin = Origin::start(lab, &Access::Token(&tokens))?;
        let password = lab.path().join("password");
        std::fs::write(&password, format!("{}\n", ACCOUNT.1))?;
        let account = format!(
            "username = \"{}\"\npassword-file = \"{}\"",
            ACCOUNT.0,
            password.display()
        );
        reads_by_its_own_account(lab, &origin, &account, &With::default())
    });
}

#[test]
fn own_account_by_basic_from_a_docker_config() {
    in_lab(|lab| {
        let origin = Origin::start(lab, &Access::Basic)?;
        let config = lab.path().join("config.json");
        let login = json!({"auths": {"https://index.docker.io/v1/": {"auth": basic(ACCOUNT.0, ACCOUNT.1)}}});
        std::fs::write(&config, login.to_string())?;
        reads_by_its_own_account(
            lab,
            &origin,
            &format!("docker-config = \"{}\"", config.display()),
            &With::default(),
        )
    });
}

#[test]
fn own_account_from_a_credential_helper() {
    in_lab(|lab| {
        let origin = Origin::start(lab, &Access::Basic)?;
        let programs = lab.folder("bin")?;
        let helper = programs.join("docker-credential-test");
        let answer = json!({"ServerURL": "", "Username": ACCOUNT.0, "Secret": ACCOUNT.1});
        std::fs::write(
            &helper,
            format!("#!/bin/sh\ncat >/dev/null\necho '{answer}'\n"),
        )?;
        std::fs::set_permissions(&helper, Permissions::from_mode(0o755))?;
        let with = With {
            programs: Some(&programs),
            ..With::default()
        };
        reads_by_its_own_account(lab, &origin, "credential-helper = \"test\"", &with)
    });
}

#[test]
fn dockerd_and_podman_log_in_where_the_ping_has_the_challenge() {
    in_lab(|lab| {
        let image = image("private/lab:1")?;
        let tokens = TokenServer::start(lab)?;
        let origin = Origin::start(lab, &Access::Token(&tokens))?;
        let with = With {
            flags: &["--challenge-ping", "true"],
            file: &origin.file(),
            ..With::default()
        };
        let darner = Darner::start_with(lab, &[("docker.io", &origin.url())], &with)?;
        for client in [
            Client::Docker(docker::Version::Debian),
            Client::Docker(docker::Version::New),
            Client::Podman,
        ] {
            let pull = Pull {
                lab,
                darner: &darner,
                image: PRIVATE,
                account: Some(ACCOUNT),
            };
            client.pull_same(&pull, &image)?;
            let nobody = Pull::public(lab, &darner, PRIVATE);
            ensure!(
                client.pull(&nobody).is_err(),
                "{client} pulled the private image without an account"
            );
        }
        Ok(())
    });
}
