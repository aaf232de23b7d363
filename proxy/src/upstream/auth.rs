//! What proves to an endpoint that we may read: learnt from its challenges, used ahead of the next.
//!
//! An endpoint that has challenged once is given a token from then on, so that a request costs one
//! round trip and not two; one that rejects it and asks for something else is asked anew. Invariant:
//! what is remembered is only what was sent to a request without credentials, so that it can be
//! relayed to a client as if the client had asked itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use oci::challenge::{self, Scheme};

use super::error::UpstreamError;
use super::token::{Grant, Login, Tokens};

/// The challenges of one endpoint and the tokens that answer them.
pub(super) struct Auth {
    tokens: Tokens,
    known: Mutex<Option<Known>>,
}

#[derive(Clone)]
struct Known {
    lines: Vec<HeaderValue>,
    /// In which repository it was sent, as the endpoint names it.
    repository: String,
    demand: Demand,
}

#[derive(Clone, PartialEq, Eq)]
enum Demand {
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
    Basic,
}

/// A header that goes with a request, and where it comes from.
pub(super) struct Proof {
    pub(super) header: HeaderValue,
    grant: Option<Grant>,
    /// Fetched for this very request.
    fresh: bool,
}

impl Auth {
    pub(super) fn new(tokens: Tokens) -> Self {
        Self {
            tokens,
            known: Mutex::default(),
        }
    }

    /// What can be sent before the endpoint asks for it. `repository` is the endpoint's name of it.
    pub(super) async fn ahead(
        &self,
        repository: &str,
        login: &Login,
    ) -> Result<Option<Proof>, UpstreamError> {
        let Some(known) = self.lock().clone() else {
            return Ok(None);
        };
        match known.demand {
            Demand::Basic => Ok(basic(login)),
            Demand::Bearer {
                realm,
                service,
                scope,
            } => {
                let scope = scope.map(|s| renamed(&s, &known.repository, repository));
                let grant = Grant {
                    realm,
                    service,
                    scope: scope.unwrap_or_else(|| pull(repository)),
                    login: login.key(),
                };
                self.token(grant, login).await.map(Some)
            }
        }
    }

    /// The answer to a challenge; `None` if there is nothing (new) to answer.
    pub(super) async fn answer(
        &self,
        lines: &[HeaderValue],
        repository: &str,
        login: &Login,
        rejected: Option<&Proof>,
    ) -> Result<Option<Proof>, UpstreamError> {
        let challenges = challenge::parse(lines);
        let bearer = challenges
            .iter()
            .find(|c| c.scheme == Scheme::Bearer && c.realm.is_some());
        let Some(challenge) = bearer else {
            // Harbor answers a token that is no longer good with a Basic challenge.
            if let Some(rejected) = rejected.filter(|rejected| !rejected.fresh)
                && let Some(grant) = &rejected.grant
            {
                self.tokens.forget(grant, &rejected.header);
                return self.token(grant.clone(), login).await.map(Some);
            }
            let wants_basic = challenges.iter().any(|c| c.scheme == Scheme::Basic);
            return Ok(basic(login).filter(|_| wants_basic && rejected.is_none()));
        };
        let scope = challenge.scope.as_ref().filter(|s| !s.is_empty());
        let grant = Grant {
            realm: challenge.realm.clone().unwrap_or_default(),
            service: challenge.service.clone(),
            scope: scope.cloned().unwrap_or_else(|| pull(repository)),
            login: login.key(),
        };
        if let Some(rejected) = rejected {
            let same = rejected.grant.as_ref() == Some(&grant);
            let invalid = challenge.error.as_deref() == Some("invalid_token");
            if rejected.fresh && same && !invalid {
                return Ok(None);
            }
            if let Some(old) = &rejected.grant {
                self.tokens.forget(old, &rejected.header);
            }
        }
        self.token(grant, login).await.map(Some)
    }

    /// Whether a challenge, to a request that carried a proof, asks for what is remembered; or for a
    /// wider token, which says nothing of what is asked of nobody.
    pub(super) fn asks_as_known(&self, lines: &[HeaderValue], repository: &str) -> bool {
        let challenges = challenge::parse(lines);
        let wider = |c: &challenge::Challenge| c.error.as_deref() == Some("insufficient_scope");
        if challenges.iter().any(wider) {
            return true;
        }
        let known = self.lock().clone();
        let known = known.map(|known| match known.demand {
            Demand::Bearer {
                realm,
                service,
                scope,
            } => Demand::Bearer {
                realm,
                service,
                scope: scope.map(|s| renamed(&s, &known.repository, repository)),
            },
            Demand::Basic => Demand::Basic,
        });
        known == demanded(lines)
    }

    /// Forgets what was believed of the endpoint, and the proof that it rejected.
    pub(super) fn doubt(&self, rejected: &Proof) {
        if let Some(grant) = &rejected.grant {
            self.tokens.forget(grant, &rejected.header);
        }
        *self.lock() = None;
    }

    /// Remembers the challenge to a request that carried no credentials.
    pub(super) fn learn(&self, lines: &[HeaderValue], repository: &str) {
        if let Some(demand) = demanded(lines) {
            *self.lock() = Some(Known {
                lines: lines.to_vec(),
                repository: repository.to_owned(),
                demand,
            });
        }
    }

    /// The challenge that the endpoint would send for `repository`; empty if it never sent one.
    pub(super) fn challenge_for(&self, repository: &str) -> Vec<HeaderValue> {
        let Some(known) = self.lock().clone() else {
            return Vec::new();
        };
        let line = |line: HeaderValue| match line.to_str() {
            Ok(text) => {
                let text = renamed(text, &known.repository, repository);
                HeaderValue::try_from(text).unwrap_or(line)
            }
            Err(_) => line,
        };
        known.lines.into_iter().map(line).collect()
    }

    async fn token(&self, grant: Grant, login: &Login) -> Result<Proof, UpstreamError> {
        let (header, fresh) = self.tokens.get(&grant, login).await?;
        Ok(Proof {
            header,
            grant: Some(grant),
            fresh,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a challenge asks for: a token, where it takes one.
fn demanded(lines: &[HeaderValue]) -> Option<Demand> {
    let challenges = challenge::parse(lines).into_iter();
    let demands = challenges.filter_map(|c| match (c.scheme, c.realm) {
        (Scheme::Bearer, Some(realm)) => Some(Demand::Bearer {
            realm,
            service: c.service,
            scope: c.scope.filter(|s| !s.is_empty()),
        }),
        (Scheme::Basic, _) => Some(Demand::Basic),
        _ => None,
    });
    demands.min_by_key(|demand| matches!(demand, Demand::Basic))
}

fn basic(login: &Login) -> Option<Proof> {
    Some(Proof {
        header: login.basic()?,
        grant: None,
        fresh: true,
    })
}

/// The scope of reading (distribution's "Token Scope Documentation").
fn pull(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

/// A text about one repository, said of another. A text that names none (`aws`) stays as it is.
fn renamed(text: &str, from: &str, to: &str) -> String {
    text.replace(&format!("repository:{from}:"), &format!("repository:{to}:"))
}
