//! Where a registry is: the parts of its URL that a request needs.

use std::fmt;

/// A registry's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    tls: bool,
    host: String,
    port: u16,
    prefix: String,
}

impl Site {
    /// Reads `http[s]://HOST[:PORT][/PREFIX]`; without a scheme it is http. The prefix stands
    /// before `/v2/` in every path.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => return Err(format!("`{scheme}` is neither http nor https")),
            None => (false, text),
        };
        let (authority, prefix) = match rest.find('/') {
            Some(at) => (&rest[..at], rest[at..].trim_end_matches('/')),
            None => (rest, ""),
        };
        if authority.contains('@') || prefix.contains(['?', '#']) {
            return Err("a registry's URL has no user, query or fragment".to_owned());
        }
        let bare = authority.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match authority[bare..].rfind(':') {
            Some(at) => {
                let (host, port) = authority.split_at(bare + at);
                let port = port[1..].parse();
                (
                    host,
                    port.map_err(|_| format!("`{authority}` has no port number"))?,
                )
            }
            None => (authority, if tls { 443 } else { 80 }),
        };
        if host.is_empty() {
            return Err(format!("`{text}` names no host"));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            prefix: prefix.trim_end_matches("/v2").to_owned(),
        })
    }

    /// A registry that listens here without TLS.
    pub fn loopback(addr: std::net::SocketAddr) -> Self {
        let host = match addr {
            std::net::SocketAddr::V4(addr) => addr.ip().to_string(),
            std::net::SocketAddr::V6(addr) => format!("[{}]", addr.ip()),
        };
        Self {
            tls: false,
            host,
            port: addr.port(),
            prefix: String::new(),
        }
    }

    /// Whether TLS is spoken there.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// The host as a socket wants it: without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What stands before `/v2/`; empty or `/...`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `HOST[:PORT]` as the `Host` header has it.
    pub fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_and_printed() {
        for (text, printed) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("127.0.0.1:5000/", "http://127.0.0.1:5000"),
            ("https://registry.example", "https://registry.example"),
            ("https://h:8443/quay.io/v2/", "https://h:8443/quay.io"),
            ("http://[::1]:5000", "http://[::1]:5000"),
        ] {
            assert_eq!(Site::parse(text).unwrap().to_string(), printed);
        }
        assert_eq!(Site::parse("http://[::1]:5000").unwrap().host(), "::1");
        for wrong in [
            "ftp://h",
            "http://",
            "http://h:x",
            "http://u@h",
            "http://h/?q",
        ] {
            assert!(Site::parse(wrong).is_err(), "{wrong}");
        }
    }
}
