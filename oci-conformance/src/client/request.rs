//! A request being made.

use std::time::Duration;

use bytes::Bytes;

use super::record::Exchange;
use super::site::Site;
use super::wire::{Connection, Response, Trouble};
use super::{Client, WAIT};

/// Redirects that are followed one after the other.
const REDIRECTS_MAX: usize = 5;

/// What a request carries.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// Nothing, and no length.
    #[default]
    None,
    /// With `Content-Length`.
    Whole(Bytes),
    /// In chunks, without a length.
    Chunked(Vec<Bytes>),
}

/// A request of a [`Client`].
#[derive(Clone, Debug)]
pub struct Request {
    client: Client,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Body,
    wait: Duration,
    plain: bool,
}

impl Request {
    pub(super) fn new(client: Client, method: &str, target: &str) -> Self {
        Self {
            client,
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Body::None,
            wait: WAIT,
            plain: false,
        }
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The `Range` header.
    #[must_use]
    pub fn range(self, value: &str) -> Self {
        self.header("Range", value)
    }

    /// What it carries, with `Content-Length`.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = Body::Whole(bytes.into());
        self
    }

    /// What it carries, in chunks without a length.
    #[must_use]
    pub fn chunks(mut self, chunks: Vec<Bytes>) -> Self {
        self.body = Body::Chunked(chunks);
        self
    }

    /// Longest wait for the next bytes of the answer.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Takes a 401 as it is, even if the client has an account.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Sends it and takes the answer to its end; a challenge is answered once if the client has an
    /// account.
    ///
    /// # Errors
    /// If no head comes that can be read, or none in time. A body that is cut is no error: see
    /// [`Response::ending`].
    pub async fn send(self) -> Result<Response, Trouble> {
        let account = self.client.account.clone().filter(|_| !self.plain);
        let Some(account) = account else {
            return self.once().await;
        };
        let known = account.known(&self.client, &self.method, &self.target);
        let first = self.clone().authorized(known).once().await?;
        if first.status != 401 {
            return Ok(first);
        }
        match account.answer(&self.client, &first).await? {
            Some(authorization) => self.authorized(Some(authorization)).once().await,
            None => Ok(first),
        }
    }

    /// The same, and goes where redirects lead, as clients do with blobs. `Authorization` goes no
    /// further than the registry itself.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn follow(self) -> Result<Response, Trouble> {
        let mut answer = self.clone().send().await?;
        for _ in 0..REDIRECTS_MAX {
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                break;
            }
            let Some(location) = answer.header("location") else {
                break;
            };
            let mut next = self.clone();
            next.target = location.to_owned();
            next.plain |= location.contains("://");
            answer = next.send().await?;
        }
        Ok(answer)
    }

    /// Sends it and returns with the head; the body is still on its way. A challenge is not
    /// answered, but what answered one before is sent.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn open(self) -> Result<Connection, Trouble> {
        let (site, bytes) = self.known().bytes()?;
        let mut connection = Connection::open_from(&site, self.wait, self.client.from).await?;
        let opened = connection.begin(&bytes, self.method == "HEAD").await;
        if let Err(trouble) = opened {
            let record = Exchange::of_bytes(self.head(&bytes), Err(&trouble));
            self.client.log.add(record);
            return Err(trouble);
        }
        let record = Exchange::of_bytes(self.head(&bytes), Ok(&connection.so_far()));
        self.client.log.add(record);
        Ok(connection)
    }

    /// Sends it on a connection that stays open, and takes the answer to its end. A challenge is not
    /// answered, but what answered one before is sent.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_on(self, connection: &mut Connection) -> Result<Response, Trouble> {
        let (_, bytes) = self.keeping().known().bytes()?;
        let result = connection.exchange(&bytes, self.method == "HEAD").await;
        let record = Exchange::of_bytes(self.head(&bytes), result.as_ref());
        self.client.log.add(record);
        result
    }

    fn keeping(&self) -> Self {
        self.clone().header("Connection", "keep-alive")
    }

    /// With the `Authorization` that last worked here, if there is one.
    fn known(&self) -> Self {
        let account = self.client.account.as_ref().filter(|_| !self.plain);
        let known =
            account.and_then(|account| account.known(&self.client, &self.method, &self.target));
        self.clone().authorized(known)
    }

    fn authorized(self, value: Option<String>) -> Self {
        match value {
            Some(value) => self.header("Authorization", &value),
            None => self,
        }
    }

    async fn once(self) -> Result<Response, Trouble> {
        let (site, bytes) = self.bytes()?;
        let opened = Connection::open_from(&site, self.wait, self.client.from).await;
        let result = match opened {
            Ok(mut connection) => connection.exchange(&bytes, self.method == "HEAD").await,
            Err(trouble) => Err(trouble),
        };
        let record = Exchange::of_bytes(self.head(&bytes), result.as_ref());
        self.client.log.add(record);
        result
    }

    fn head<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        &bytes[..end.unwrap_or(bytes.len())]
    }

    /// Whom to ask, and the bytes on the wire.
    fn bytes(&self) -> Result<(Site, Vec<u8>), Trouble> {
        let (site, path) = if !self.target.starts_with('/') && self.target.contains("://") {
            let end = self.target.find("://").map_or(0, |at| at + 3);
            let cut = self.target[end..].find(['/', '?']);
            let (site, path) = self
                .target
                .split_at(cut.map_or(self.target.len(), |c| end + c));
            (Site::parse(site).map_err(Trouble::Url)?, path.to_owned())
        } else {
            let prefix = self.client.site.prefix();
            (self.client.site.clone(), format!("{prefix}{}", self.target))
        };
        let mut head = format!("{} {path} HTTP/1.1\r\n", self.method);
        let has = |name: &str| {
            let own = self.headers.iter();
            own.clone().any(|(own, _)| own.eq_ignore_ascii_case(name))
        };
        if !has("host") {
            head.push_str(&format!("Host: {}\r\n", site.authority()));
        }
        if !has("connection") {
            head.push_str("Connection: close\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut body = Vec::new();
        match &self.body {
            Body::None if matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") => {
                head.push_str("Content-Length: 0\r\n");
            }
            Body::None => {}
            Body::Whole(bytes) => {
                head.push_str(&format!("Content-Length: {}\r\n", bytes.len()));
                body.extend_from_slice(bytes);
            }
            Body::Chunked(chunks) => {
                head.push_str("Transfer-Encoding: chunked\r\n");
                for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                    body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    body.extend_from_slice(chunk);
                    body.extend_from_slice(b"\r\n");
                }
                body.extend_from_slice(b"0\r\n\r\n");
            }
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&body);
        Ok((site, bytes))
    }
}
