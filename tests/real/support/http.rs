//! A minimal blocking HTTP/1.1 client that shares no code with Darner: one connection per request.
//!
//! It understands Content-Length, chunked and close-delimited bodies, which is all that registries send here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const DEADLINE: Duration = Duration::from_secs(60);

/// An answer whose body has not been read yet.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
}

/// GET with extra headers.
pub(crate) fn get(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    request(addr, "GET", path, headers, &[])
}

/// Sends a request and reads the head of the answer.
pub(crate) fn request(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let stream = TcpStream::connect_timeout(&addr, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" || method == "PUT" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(body)?;
    let mut reader = BufReader::with_capacity(1 << 18, stream);
    let status = line(&mut reader)?;
    let status = status
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("a status line")?;
    let mut headers = Vec::new();
    loop {
        let line = line(&mut reader)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Answer {
        status,
        headers,
        reader,
    })
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        bail!("the connection ended inside the head");
    }
    Ok(line.trim_end().to_owned())
}

impl Answer {
    /// A header's first value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.as_str())
    }

    /// Content-Length, if it says one.
    pub(crate) fn length(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }

    /// What has arrived of the body next; empty at the end of the connection.
    pub(crate) fn next(&mut self) -> Result<Vec<u8>> {
        let some = self.reader.fill_buf()?.to_vec();
        self.reader.consume(some.len());
        Ok(some)
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// When it ends before its Content-Length, or is reset.
    pub(crate) fn body(mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&line(&mut self.reader)?, 16)?;
                let start = body.len();
                body.resize(start + size, 0);
                self.reader.read_exact(&mut body[start..])?;
                line(&mut self.reader)?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match self.length() {
            None => {
                self.reader.read_to_end(&mut body)?;
            }
            Some(length) => {
                let got = self
                    .reader
                    .by_ref()
                    .take(length as u64)
                    .read_to_end(&mut body)?;
                if got != length {
                    bail!("the body ended after {got} of {length} bytes");
                }
            }
        }
        Ok(body)
    }
}
