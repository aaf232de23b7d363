//! The ways in which an answer can go wrong, and the rules that say when.

use std::sync::Mutex;

use bytes::Bytes;

use super::gate::Gate;
use super::lock;
use super::record::{Ask, Seen};

/// One way to misbehave. Offsets count body bytes of the answer itself, from 0.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing is answered until the gate lets something pass: slow, or stalled for ever.
    HoldHead(Gate),
    /// The connection ends cleanly before any answer.
    HangUp,
    /// The connection is reset before any answer.
    Reset,
    /// The body leaves only as far as the gate allows.
    Pace(Gate),
    /// The body stops at this offset for ever.
    StallAt(u64),
    /// The body ends with FIN at this offset, before its announced length.
    CutFin(u64),
    /// The body ends with RST at this offset.
    CutRst(u64),
    /// A range is answered 200 with everything.
    WholeForRange,
    /// `Content-Range` names a range one byte further on than asked and sent.
    WrongContentRange,
    /// The content lacks its last bytes, and the lengths agree with that.
    ShortBody(u64),
    /// The content goes on with zero bytes, and the lengths agree with that.
    LongBody(u64),
    /// The content's byte at this offset is flipped.
    WrongByteAt(u64),
    /// So many spaces instead, made as they are sent.
    Huge(u64),
    /// 200 with a page for people, as a captive portal has it.
    Html,
    /// `Content-Encoding: gzip`.
    Gzip,
    /// No `Content-Length`, but chunks.
    Chunked,
    /// No `Content-Length` and no chunks: the end of the connection is the end of the body.
    CloseDelimited,
    /// No `Docker-Content-Digest`.
    NoDigest,
    /// `Docker-Content-Digest` of something else.
    Digest(String),
    /// This status with an empty body.
    Status(u16),
    /// 429, with this `Retry-After` if any.
    TooMany(Option<String>),
    /// 401 with this `WWW-Authenticate`.
    Challenge(String),
    /// 307 to this `Location`.
    Redirect(String),
    /// This answer instead.
    Reply(Reply),
    /// The answer leaves before the request's body is read, and the connection ends after it.
    Early,
    /// The request's body is taken in only as far as the gate allows.
    PaceBody(Gate),
}

/// A whole answer of the test's own.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    /// Spaces after the body.
    pub(super) spaces: u64,
    pub(super) framing: Framing,
    /// Whether a `Range` in the request cuts the body.
    pub(super) ranged: bool,
    /// How far `Content-Range` lies.
    pub(super) range_shift: u64,
    pub(super) hold: Option<Gate>,
    pub(super) pace: Option<Gate>,
    pub(super) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    Close,
}

/// Where and how an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    HangUp,
    Reset,
    Fin(u64),
    Rst(u64),
    Stall(u64),
}

impl Reply {
    /// A status with an empty body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            spaces: 0,
            framing: Framing::Length,
            ranged: false,
            range_shift: 0,
            hold: None,
            pace: None,
            end: End::Whole,
        }
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = bytes.into();
        self
    }

    /// Lets a `Range` in the request cut the body.
    #[must_use]
    pub fn ranged(mut self) -> Self {
        self.ranged = true;
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        self
    }
}

impl Fault {
    /// The answer as this fault makes it.
    pub(super) fn spoil(self, mut reply: Reply) -> Reply {
        match self {
            Self::HoldHead(gate) => reply.hold = Some(gate),
            Self::Pace(gate) => reply.pace = Some(gate),
            Self::HangUp => reply.end = End::HangUp,
            Self::Reset => reply.end = End::Reset,
            Self::StallAt(at) => reply.end = End::Stall(at),
            Self::CutFin(at) => reply.end = End::Fin(at),
            Self::CutRst(at) => reply.end = End::Rst(at),
            Self::WholeForRange => reply.ranged = false,
            Self::WrongContentRange => reply.range_shift = 1,
            Self::ShortBody(by) => {
                let kept = reply.body.len().saturating_sub(to_usize(by));
                reply.body.truncate(kept);
            }
            Self::LongBody(by) => {
                let mut bytes = reply.body.to_vec();
                bytes.resize(bytes.len() + to_usize(by), 0);
                reply.body = bytes.into();
            }
            Self::WrongByteAt(at) => {
                let mut bytes = reply.body.to_vec();
                if let Some(byte) = bytes.get_mut(to_usize(at)) {
                    *byte ^= 0xff;
                }
                reply.body = bytes.into();
            }
            Self::Huge(length) => {
                reply.status = 200;
                reply.body = Bytes::new();
                reply.ranged = false;
                reply.spaces = length;
            }
            Self::Chunked => reply.framing = Framing::Chunked,
            Self::CloseDelimited => reply.framing = Framing::Close,
            Self::Gzip => return reply.header("Content-Encoding", "gzip"),
            Self::NoDigest => return reply.without("Docker-Content-Digest"),
            Self::Digest(digest) => {
                return reply
                    .without("Docker-Content-Digest")
                    .header("Docker-Content-Digest", &digest);
            }
            Self::Html => {
                let page = "<!DOCTYPE html><html><body>Please sign in to the network</body></html>";
                return Reply::new(200)
                    .header("Content-Type", "text/html")
                    .body(page);
            }
            Self::Status(status) => return Reply::new(status),
            Self::TooMany(None) => return Reply::new(429),
            Self::TooMany(Some(after)) => return Reply::new(429).header("Retry-After", &after),
            Self::Challenge(challenge) => {
                return Reply::new(401).header("WWW-Authenticate", &challenge);
            }
            Self::Redirect(location) => return Reply::new(307).header("Location", &location),
            Self::Reply(reply) => return reply,
            // They were heeded when the request came.
            Self::Early | Self::PaceBody(_) => {}
        }
        reply
    }
}

fn to_usize(offset: u64) -> usize {
    usize::try_from(offset).expect("tests keep their content in memory")
}

/// When to misbehave, and how.
pub(super) struct Rule {
    ask: Ask,
    skip: usize,
    times: usize,
    faults: Vec<Fault>,
}

impl Rule {
    /// The faults if this rule is for this request; counts it.
    fn take(&mut self, seen: &Seen) -> Option<Vec<Fault>> {
        if self.times == 0 || !self.ask.means(seen) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.faults.clone())
    }
}

/// The faults of the first rule that is for this request.
pub(super) fn faults(rules: &Mutex<Vec<Rule>>, seen: &Seen) -> Vec<Fault> {
    let mut rules = lock(rules);
    rules
        .iter_mut()
        .find_map(|rule| rule.take(seen))
        .unwrap_or_default()
}

/// A rule being made; it counts only once it has an answer.
pub struct RuleBuilder<'o> {
    rules: &'o Mutex<Vec<Rule>>,
    ask: Ask,
    skip: usize,
    times: usize,
}

impl<'o> RuleBuilder<'o> {
    pub(super) fn new(rules: &'o Mutex<Vec<Rule>>, ask: Ask) -> Self {
        Self {
            rules,
            ask,
            skip: 0,
            times: usize::MAX,
        }
    }

    /// Only the first such request (after those left out).
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Only so many requests.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Leaves the first `count` of them alone.
    #[must_use]
    pub fn after(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// Does it.
    pub fn answer(self, fault: Fault) {
        self.answer_all([fault]);
    }

    /// Does all of these, in order.
    pub fn answer_all(self, faults: impl IntoIterator<Item = Fault>) {
        lock(self.rules).push(Rule {
            ask: self.ask,
            skip: self.skip,
            times: self.times,
            faults: faults.into_iter().collect(),
        });
    }
}
