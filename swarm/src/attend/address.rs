//! Whether an address that somebody advertises can be reached from here.
//!
//! An address is found out before it is used: one that names the wrong network would otherwise look
//! like a swarm in which nobody has anything. Both ends of the wire check the other's.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::wire;

/// How long a connection may take. More than two round trips around the world and a lost packet.
const REACH: Duration = Duration::from_millis(1500);

/// What was found out about an advertised address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The address as it was advertised, `host:port`.
    pub address: String,
    /// Whether it answers.
    pub reached: bool,
    /// The one that answers instead, if one does.
    pub instead: Option<String>,
    /// What the system says of the advertised one.
    pub error: String,
}

impl Verdict {
    /// The address to use: one that answers if there is one, else the advertised one.
    pub fn usable(&self) -> &str {
        self.instead.as_deref().unwrap_or(&self.address)
    }

    /// Tries `advertised`, then `otherwise`.
    pub async fn find(advertised: String, otherwise: Option<String>) -> Self {
        let error = match reach(&advertised).await {
            Ok(()) => {
                return Self {
                    address: advertised,
                    reached: true,
                    instead: None,
                    error: String::new(),
                };
            }
            Err(error) => error,
        };
        let instead = match otherwise.filter(|other| *other != advertised) {
            Some(other) => reach(&other).await.is_ok().then_some(other),
            None => None,
        };
        Self {
            address: advertised,
            reached: false,
            instead,
            error,
        }
    }
}

async fn reach(address: &str) -> Result<(), String> {
    match tokio::time::timeout(REACH, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", REACH.as_millis())),
    }
}

impl From<Verdict> for wire::AddressVerdict {
    fn from(verdict: Verdict) -> Self {
        Self {
            address: verdict.address,
            reached: verdict.reached,
            instead: verdict.instead.unwrap_or_default(),
            error: verdict.error,
        }
    }
}

impl From<wire::AddressVerdict> for Verdict {
    fn from(told: wire::AddressVerdict) -> Self {
        Self {
            address: told.address,
            reached: told.reached,
            instead: Some(told.instead).filter(|instead| !instead.is_empty()),
            error: told.error,
        }
    }
}

/// `host:port`, with the brackets that an IPv6 address needs.
pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The host in `host:port`, without brackets.
pub fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_join_and_part() {
        for (host, address) in [
            ("node.lan", "node.lan:65003"),
            ("10.0.0.7", "10.0.0.7:65003"),
            ("fd00::7", "[fd00::7]:65003"),
        ] {
            assert_eq!(join(host, 65003), address);
            assert_eq!(host_of(address), host);
        }
        assert_eq!(host_of(":8001"), "");
    }

    #[tokio::test]
    async fn the_address_that_answers_is_used() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap().to_string();
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bad = free.local_addr().unwrap().to_string();
        drop(free);

        let verdict = Verdict::find(good.clone(), Some(bad.clone())).await;
        assert!(verdict.reached && verdict.usable() == good);
        let verdict = Verdict::find(bad.clone(), Some(good.clone())).await;
        assert!(!verdict.reached && !verdict.error.is_empty());
        assert_eq!(verdict.usable(), good);
        assert_eq!(
            Verdict::from(wire::AddressVerdict::from(verdict.clone())),
            verdict
        );
        let verdict = Verdict::find(bad.clone(), None).await;
        assert_eq!(
            (verdict.instead.as_deref(), verdict.usable()),
            (None, bad.as_str())
        );
    }
}
