//! The operator's own accounts: from the configuration, a docker `config.json`, or a helper command.
//!
//! Whoever reaches the node's port reads with them what their patterns cover, so an account without
//! patterns is an error. Looked up again after a while, and at once after a refusal, so that rotated
//! secrets are taken up without a restart.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oci::{Registry, Repository};
use tokio::sync::Mutex;

use super::config::AccountConfig;
use super::credential::Secret;
use super::docker_config;
use super::error::UpstreamConfigError;
use super::token::Login;
use super::well_known::matches;

/// How long a login that was found is used before it is looked up again.
const FOUND_TTL: Duration = Duration::from_secs(300);
/// How long a failure to find one is believed.
const FAILED_TTL: Duration = Duration::from_secs(10);

/// Why an account's secret cannot be had. Names files and commands, never secrets.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum AccountError {
    #[error("cannot read {path}: {why}")]
    File { path: String, why: String },
    #[error("{path} is no docker config.json: {why}")]
    Form { path: String, why: String },
    #[error("{path} has no account for {registry}")]
    Missing { path: String, registry: String },
    #[error("docker-credential-{helper}: {why}")]
    Helper { helper: String, why: String },
}

/// An account of one registry and the repositories that are read with it.
pub(super) struct Account {
    registry: Registry,
    patterns: Vec<String>,
    source: Source,
    found: Mutex<Option<(Instant, Result<Login, AccountError>)>>,
}

enum Source {
    Password { username: String, password: Secret },
    PasswordFile { username: String, path: PathBuf },
    DockerConfig(PathBuf),
    Helper(String),
}

impl Account {
    pub(super) fn new(
        registry: &Registry,
        config: &AccountConfig,
    ) -> Result<Self, UpstreamConfigError> {
        let wrong = |why: &str| UpstreamConfigError::Entry {
            registry: registry.to_string(),
            why: why.to_owned(),
        };
        if config.repositories.is_empty() {
            return Err(wrong(
                "an account needs `repositories`; hint: [\"**\"] gives everybody who reaches the \
                 node all that the account can read",
            ));
        }
        let c = config.clone();
        let source = match (c.username, c.docker_config, c.credential_helper) {
            (Some(username), None, None) => match (c.password, c.password_file) {
                (Some(password), None) => Source::Password { username, password },
                (None, Some(path)) => Source::PasswordFile { username, path },
                _ => return Err(wrong("an account needs `password` or `password-file`")),
            },
            (None, Some(path), None) => Source::DockerConfig(path),
            (None, None, Some(helper)) if docker_config::is_helper_name(&helper) => {
                Source::Helper(helper)
            }
            (None, None, Some(_)) => {
                return Err(wrong(
                    "`credential-helper` is X of the command docker-credential-X",
                ));
            }
            _ => {
                return Err(wrong(
                    "an account needs one of `username`, `docker-config` and `credential-helper`",
                ));
            }
        };
        Ok(Self {
            registry: registry.clone(),
            patterns: c.repositories,
            source,
            found: Mutex::default(),
        })
    }

    pub(super) fn covers(&self, repository: &Repository) -> bool {
        self.patterns
            .iter()
            .any(|pattern| matches(pattern, repository.as_str(), '/'))
    }

    /// The login, looked up once for all who ask meanwhile.
    pub(super) async fn login(&self) -> Result<Login, AccountError> {
        let mut found = self.found.lock().await;
        if let Some((since, login)) = &*found {
            let ttl = if login.is_ok() { FOUND_TTL } else { FAILED_TTL };
            if since.elapsed() < ttl {
                return login.clone();
            }
        }
        let login = self.look_up().await;
        if let Err(error) = &login {
            tracing::warn!(
                registry = %self.registry, %error,
                "own account cannot be used, going on without it"
            );
        }
        *found = Some((Instant::now(), login.clone()));
        login
    }

    /// Notes that the login was refused: it is looked up again after a short while.
    pub(super) async fn doubt(&self) {
        let mut found = self.found.lock().await;
        if found
            .as_ref()
            .is_some_and(|(since, _)| since.elapsed() > FAILED_TTL)
        {
            *found = None;
        }
    }

    async fn look_up(&self) -> Result<Login, AccountError> {
        match &self.source {
            Source::Password { username, password } => Ok(Login::Password {
                username: username.clone(),
                password: password.clone(),
            }),
            Source::PasswordFile { username, path } => {
                let text = docker_config::read(path).await?;
                Ok(Login::Password {
                    username: username.clone(),
                    password: Secret::new(text.lines().next().unwrap_or_default()),
                })
            }
            Source::DockerConfig(path) => docker_config::login(path, &self.registry).await,
            Source::Helper(helper) => docker_config::ask_helper(helper, &self.registry).await,
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "account of {} for {:?}", self.registry, self.patterns)
    }
}
