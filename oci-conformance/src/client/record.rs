//! What was said: each request and its answer, as far as a person needs it to see a failure.
//!
//! Bodies are kept to their first bytes; credentials are not kept.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::wire::{Response, Trouble};

/// Bytes of a body that are kept.
const KEPT: usize = 400;

/// The exchanges of one check, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Exchange>>>);

/// One request and what came back.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Request line and headers.
    pub request: String,
    /// Status line and headers, or why there are none.
    pub response: String,
    /// The first bytes of the answer's body, if they are text.
    pub body: String,
    /// Bytes of the answer's body.
    pub length: usize,
}

impl Log {
    /// Adds one.
    pub fn add(&self, exchange: Exchange) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(exchange);
    }

    /// All so far.
    pub fn all(&self) -> Vec<Exchange> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Exchange {
    /// A record of a request with this head and its result.
    pub fn of_bytes(head: &[u8], result: Result<&Response, &Trouble>) -> Self {
        let text = String::from_utf8_lossy(&head[..head.len().min(8 * KEPT)]);
        let request = text.lines().map(without_secret).collect::<Vec<_>>();
        let (response, body, length) = match result {
            Ok(response) => (
                response.head_text(),
                start_of(&response.body),
                response.body.len(),
            ),
            Err(trouble) => (format!("no answer: {trouble}"), String::new(), 0),
        };
        Self {
            request: request.join("\n").trim_end().to_owned(),
            response,
            body,
            length,
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.request.lines() {
            writeln!(f, "> {line}")?;
        }
        for line in self.response.lines() {
            writeln!(f, "< {line}")?;
        }
        if !self.body.is_empty() {
            writeln!(f, "< {}", self.body)?;
        }
        write!(f, "< ({} bytes of body)", self.length)
    }
}

fn without_secret(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    if !lower.starts_with("authorization:") {
        return line.to_owned();
    }
    let scheme = line["authorization:".len()..].split_whitespace().next();
    format!("Authorization: {} (not shown)", scheme.unwrap_or_default())
}

fn start_of(body: &[u8]) -> String {
    let start = &body[..body.len().min(KEPT)];
    let text = String::from_utf8_lossy(start);
    let printable = text.chars().all(|c| !c.is_control() || c.is_whitespace());
    if !printable || (body.len() <= KEPT && std::str::from_utf8(start).is_err()) {
        return String::new();
    }
    let more = if body.len() > KEPT { " ..." } else { "" };
    format!("{}{more}", text.trim_end())
}
