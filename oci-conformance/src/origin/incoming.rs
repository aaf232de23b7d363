//! A request's body as it comes off the wire: of a known length, or in chunks (RFC 9112, 7.1). Pure.

use bytes::Bytes;

use super::record::Seen;

/// Largest body that is kept.
const BODY_MAX: usize = 1 << 30;
/// Longest line between two chunks.
const LINE_MAX: usize = 1024;

/// How a body says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Known(usize),
    Chunked,
}

/// What the head says of the body; `None` for nonsense.
pub(super) fn length(seen: &Seen) -> Option<Length> {
    match (
        seen.header("transfer-encoding"),
        seen.header("content-length"),
    ) {
        (Some("chunked"), None) => Some(Length::Chunked),
        (Some(_), _) => None,
        (None, Some(length)) => {
            let length = length.parse().ok().filter(|length| *length <= BODY_MAX);
            length.map(Length::Known)
        }
        (None, None) => Some(Length::Known(0)),
    }
}

/// A body on its way.
pub(super) struct Incoming {
    bytes: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are still to come, and nothing after them.
    Plain(usize),
    /// The line with a chunk's size is next.
    Size,
    /// So many bytes of a chunk are still to come.
    Chunk(usize),
    /// The line end behind a chunk is next.
    ChunkEnd,
    /// Trailer lines up to an empty one.
    Trailers,
    Whole,
}

impl Incoming {
    pub(super) fn new(length: Length) -> Self {
        let state = match length {
            Length::Known(0) => State::Whole,
            Length::Known(length) => State::Plain(length),
            Length::Chunked => State::Size,
        };
        Self {
            bytes: Vec::new(),
            state,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Whole
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    /// Whether something can be made of what was read, so that there is no need to read on.
    pub(super) fn has_more(&self, read: &[u8]) -> bool {
        match self.state {
            State::Plain(_) | State::Chunk(_) => !read.is_empty(),
            _ => read.contains(&b'\n'),
        }
    }

    /// Moves at most `room` bytes of the body out of what was read; how many, or `None` for
    /// nonsense.
    pub(super) fn take(&mut self, read: &mut Vec<u8>, room: usize) -> Option<usize> {
        let before = self.bytes.len();
        loop {
            let left = room - (self.bytes.len() - before);
            match self.state {
                State::Plain(missing) => {
                    let missing = self.move_bytes(read, missing, left);
                    self.state = match missing {
                        0 => State::Whole,
                        missing => State::Plain(missing),
                    };
                }
                State::Chunk(missing) => {
                    let missing = self.move_bytes(read, missing, left);
                    self.state = match missing {
                        0 => State::ChunkEnd,
                        missing => State::Chunk(missing),
                    };
                }
                State::Size | State::ChunkEnd | State::Trailers => {
                    let Some(line) = take_line(read)? else { break };
                    self.state = after_line(self.state, &line)?;
                    if self.bytes.len() > BODY_MAX {
                        return None;
                    }
                    continue;
                }
                State::Whole => break,
            }
            if matches!(self.state, State::Plain(_) | State::Chunk(_)) {
                break;
            }
        }
        Some(self.bytes.len() - before)
    }

    fn move_bytes(&mut self, read: &mut Vec<u8>, missing: usize, room: usize) -> usize {
        let count = missing.min(room).min(read.len());
        self.bytes.extend(read.drain(..count));
        missing - count
    }
}

fn after_line(state: State, line: &str) -> Option<State> {
    Some(match state {
        State::Size => {
            let size = line.split(';').next().unwrap_or_default().trim();
            match usize::from_str_radix(size, 16).ok()? {
                0 => State::Trailers,
                size => State::Chunk(size),
            }
        }
        State::ChunkEnd if line.is_empty() => State::Size,
        State::Trailers if line.is_empty() => State::Whole,
        State::Trailers => State::Trailers,
        _ => return None,
    })
}

/// The next whole line; the outer `None` for one that is too long.
fn take_line(read: &mut Vec<u8>) -> Option<Option<String>> {
    let Some(end) = read.iter().position(|byte| *byte == b'\n') else {
        return (read.len() <= LINE_MAX).then_some(None);
    };
    let line: Vec<u8> = read.drain(..=end).collect();
    let line = String::from_utf8_lossy(&line);
    Some(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of `text`, given in steps of so many bytes with so much room.
    fn read(length: Length, text: &str, step: usize, room: usize) -> Option<Vec<u8>> {
        let mut body = Incoming::new(length);
        let mut read = Vec::new();
        for part in text.as_bytes().chunks(step) {
            read.extend_from_slice(part);
            while !body.is_whole() && body.has_more(&read) {
                assert!(body.take(&mut read, room)? <= room);
            }
        }
        body.is_whole().then(|| body.into_bytes().to_vec())
    }

    #[test]
    fn chunks_in_any_steps_and_with_any_room() {
        let text = "5;name=x\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        for step in 1..text.len() {
            for room in [1, 3, 100] {
                let body = read(Length::Chunked, text, step, room).unwrap();
                assert_eq!(body, b"hello 0123456789", "steps of {step}, room of {room}");
            }
        }
    }

    #[test]
    fn nonsense() {
        for text in ["x\r\n", "2\r\nabc\r\n0\r\n\r\n", "-1\r\n"] {
            assert_eq!(read(Length::Chunked, text, 100, 100), None, "{text}");
        }
        assert_eq!(read(Length::Known(4), "abcd", 1, 1).unwrap(), b"abcd");
        assert_eq!(read(Length::Known(0), "", 1, 1).unwrap(), b"");
        assert_eq!(read(Length::Known(4), "abc", 1, 1), None);
    }
}
