//! A streaming registry client: HTTP/1.1, identity encoding, redirects followed here and checked.
//!
//! Invariants: credentials leave with a redirect to another scheme, host or port; https never turns
//! into http; no address is dialled that the policy of [`Endpoint`] does not allow; every wait has a
//! deadline. Not here: tokens, retries over several endpoints, what the answers mean.

mod address;
mod body;
mod connection;
mod dial;
mod endpoint;
mod error;
mod outgoing;
mod pool;
mod redirect;
mod tls;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, COOKIE, HOST, HeaderMap, LOCATION,
    PROXY_AUTHORIZATION, USER_AGENT,
};
use http::{HeaderValue, Method, StatusCode, Uri};
use hyper_util::client::proxy::matcher::Matcher;

use self::connection::Connection;
use self::dial::Dialler;
use self::endpoint::Policy;
use self::error::chain;
use self::outgoing::Outgoing;
use self::pool::{Place, Pool};

pub use self::body::Body;
pub use self::dial::{Resolve, SystemResolver};
pub use self::endpoint::{Endpoint, EndpointError, EndpointOptions, HostPort, UrlOrigin};
pub use self::error::ClientError;
pub use self::outgoing::{BoxError, Upload};
pub use self::redirect::resolve as resolve_location;
pub use self::tls::{Roots, TlsError};

/// Most redirects of one request: registry, region, CDN and some to spare.
const REDIRECTS_MAX: usize = 5;
/// How much of a redirect's own body is read so that its connection can be used again.
const DRAIN_MAX: usize = 16 * 1024;
/// How long that may take: a new connection costs about as much.
const DRAIN_WAIT: Duration = Duration::from_millis(200);
const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("darner/", env!("CARGO_PKG_VERSION")));

/// Deadlines of a request.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS together.
    pub connect: Duration,
    /// From sending the request to the answer's head.
    pub head: Duration,
    /// Longest silence within a body.
    pub body_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            head: Duration::from_secs(20),
            body_idle: Duration::from_secs(20),
        }
    }
}

/// What a [`Client`] is made of.
pub struct ClientConfig {
    /// Certificates that are trusted.
    pub roots: Roots,
    /// Forward proxies; `Matcher::from_env()` reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY` in both spellings.
    pub proxies: Matcher,
    /// How names become addresses.
    pub resolver: Arc<dyn Resolve>,
    /// Deadlines.
    pub timeouts: Timeouts,
}

impl ClientConfig {
    /// The system's roots, proxies and resolver.
    pub fn system() -> Self {
        Self {
            roots: Roots::system(),
            proxies: Matcher::from_env(),
            resolver: Arc::new(SystemResolver),
            timeouts: Timeouts::default(),
        }
    }

    /// No roots, no proxies, the system's resolver: what tests on loopback need.
    pub fn bare() -> Self {
        Self {
            roots: Roots::none(),
            proxies: Matcher::builder().build(),
            resolver: Arc::new(SystemResolver),
            timeouts: Timeouts::default(),
        }
    }
}

/// A request without secrets in its URL; `Authorization` goes into `headers`.
pub struct Request<'a> {
    /// Under whose policy and TLS settings.
    pub endpoint: &'a Endpoint,
    /// GET, HEAD or, for tokens, POST.
    pub method: Method,
    /// Where to; of the endpoint's own host or of a realm.
    pub url: Uri,
    /// `Accept`, `Range`, `Authorization` and the like.
    pub headers: HeaderMap,
    /// Sent with a Content-Length; empty for GET and HEAD, and for what is sent by `upload`.
    pub body: Bytes,
    /// A host besides the endpoint's that the operator's word covers for this request (the token
    /// server of a private registry).
    pub also_allowed: Option<HostPort>,
    /// Which redirects of a GET or HEAD are followed.
    pub redirects: Redirects<'a>,
}

/// Which redirects are followed, besides what the address policy says.
#[derive(Clone, Copy)]
pub enum Redirects<'a> {
    /// All, without credentials where the origin changes.
    Follow,
    /// Only those to a URL that passes.
    Passing(&'a (dyn Fn(&Uri) -> bool + Send + Sync)),
}

/// The answer after all redirects.
#[derive(Debug)]
pub struct Response {
    /// Status of the last hop.
    pub status: StatusCode,
    /// Headers of the last hop.
    pub headers: HeaderMap,
    /// Its body, not yet read.
    pub body: Body,
    /// Another origin than the asked one answered, without our credentials: what it refuses says
    /// nothing about our rights.
    pub moved: bool,
}

/// Makes requests; cheap to share behind an `Arc`, owns no task.
pub struct Client {
    dialler: Dialler,
    pool: Arc<Pool>,
    roots: Roots,
    timeouts: Timeouts,
}

impl Client {
    /// A client with an empty pool.
    pub fn new(config: ClientConfig) -> Self {
        Self {
            dialler: Dialler {
                resolver: config.resolver,
                proxies: config.proxies,
                deadline: config.timeouts.connect,
            },
            pool: Arc::default(),
            roots: config.roots,
            timeouts: config.timeouts,
        }
    }

    /// An endpoint of this client, `http(s)://host[:port][/prefix]`.
    pub fn endpoint(&self, url: &str, options: EndpointOptions) -> Result<Endpoint, EndpointError> {
        Endpoint::build(url, options, &self.roots)
    }

    /// Sends a request, follows redirects of GET and HEAD, and resolves with the answer's head.
    ///
    /// A presigned URL that was refused is asked for once more: it may have expired on the way.
    /// Dropping the future closes the connection in use.
    pub async fn send(&self, request: Request<'_>) -> Result<Response, ClientError> {
        let response = self.follow(&request).await?;
        if response.moved && response.status == StatusCode::FORBIDDEN {
            return self.follow(&request).await;
        }
        Ok(response)
    }

    async fn follow(&self, request: &Request<'_>) -> Result<Response, ClientError> {
        let asked = UrlOrigin::of(&request.url)?;
        let mut url = request.url.clone();
        let mut origin = asked.clone();
        let mut headers = request.headers.clone();
        for _ in 0..=REDIRECTS_MAX {
            let hop = Hop {
                policy: Policy {
                    endpoint: request.endpoint,
                    also: request.also_allowed.as_ref(),
                },
                method: &request.method,
                url: &url,
                origin: &origin,
                headers: &headers,
                body: &request.body,
            };
            let mut response = self.exchange(hop).await?;
            let location = match response.headers.get(LOCATION) {
                Some(location)
                    if redirect::is_redirect(response.status)
                        && matches!(request.method, Method::GET | Method::HEAD) =>
                {
                    location
                }
                _ => {
                    response.moved = origin != asked;
                    return identity_only(response, &origin);
                }
            };
            let next = redirect::resolve(&url, location).ok_or_else(|| {
                ClientError::invalid(&origin.at, "it redirects to something that is no URL")
            })?;
            let to = UrlOrigin::of(&next)?;
            if origin.tls && !to.tls {
                return Err(ClientError::refused(
                    &to.at,
                    "a redirect from https to http",
                ));
            }
            if let Redirects::Passing(passes) = request.redirects
                && !passes(&next)
            {
                return Err(ClientError::refused(&to.at, "a redirect to a foreign host"));
            }
            if to != origin {
                for secret in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
                    headers.remove(secret);
                }
            }
            if request.method == Method::GET {
                // Only for the connection's sake; its fate does not matter.
                let drained = response.body.collect(DRAIN_MAX);
                drop(tokio::time::timeout(DRAIN_WAIT, drained).await);
            }
            (url, origin) = (next, to);
        }
        Err(ClientError::invalid(&origin.at, "too many redirects"))
    }

    /// One request and its answer's head, over a kept connection or a new one.
    async fn exchange(&self, hop: Hop<'_>) -> Result<Response, ClientError> {
        let place = Place {
            endpoint: hop.policy.endpoint.id,
            origin: hop.origin.clone(),
        };
        if let Some(connection) = self.pool.take(&place)
            && let Some(response) = self.try_on(connection, &hop, &place).await?
        {
            return Ok(response);
        }
        let dialled = self.dialler.dial(hop.policy, hop.url, hop.origin).await?;
        let connection = Connection::start(dialled)
            .await
            .map_err(|e| ClientError::unreachable(&hop.origin.at, chain(&e)))?;
        let response = self.try_on(connection, &hop, &place).await?;
        response.ok_or_else(|| ClientError::unreachable(&hop.origin.at, "connection lost"))
    }

    /// `None` if a kept connection turned out to be dead: then a new one is worth a try.
    async fn try_on(
        &self,
        mut connection: Connection,
        hop: &Hop<'_>,
        place: &Place,
    ) -> Result<Option<Response>, ClientError> {
        let at = &hop.origin.at;
        let request = hop.request(&connection, Outgoing::whole(hop.body.clone()))?;
        let answer = tokio::time::timeout(self.timeouts.head, connection.send(request))
            .await
            .map_err(|_| ClientError::stalled(at, "answering"))?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) if connection.reused => return Ok(None),
            Err(failed) => return Err(ClientError::unreachable(at, chain(&failed.error))),
        };
        Ok(Some(self.response(answer, connection, place)))
    }

    fn response(
        &self,
        answer: http::Response<hyper::body::Incoming>,
        connection: Connection,
        place: &Place,
    ) -> Response {
        let (head, incoming) = answer.into_parts();
        Response {
            status: head.status,
            headers: head.headers,
            body: Body::new(
                incoming,
                connection,
                self.pool.clone(),
                place.clone(),
                self.timeouts.body_idle,
            ),
            moved: false,
        }
    }
}

/// One step of a request.
struct Hop<'a> {
    policy: Policy<'a>,
    method: &'a Method,
    url: &'a Uri,
    origin: &'a UrlOrigin,
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

impl Hop<'_> {
    fn request(
        &self,
        over: &Connection,
        body: Outgoing,
    ) -> Result<http::Request<Outgoing>, ClientError> {
        let wrong = |_| ClientError::refused(&self.origin.at, "the URL has no usable form");
        let authority = self.url.authority().map_or("", |a| a.as_str());
        let target = match &over.via_proxy {
            Some(_) => self.url.clone(),
            None => {
                let path = self.url.path_and_query().map_or("/", |p| p.as_str());
                path.parse()
                    .map_err(|_| ClientError::refused(&self.origin.at, "no path"))?
            }
        };
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(target)
            .body(body)
            .map_err(wrong)?;
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        let host = HeaderValue::from_str(authority)
            .map_err(|_| ClientError::refused(&self.origin.at, "no host"))?;
        headers.insert(HOST, host);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, USER_AGENT_VALUE);
        if let Some(Some(auth)) = &over.via_proxy {
            headers.insert(PROXY_AUTHORIZATION, auth.clone());
        }
        Ok(request)
    }
}

/// Bytes of an encoded answer are not the content's bytes; an encoded error just loses its text.
fn identity_only(mut response: Response, origin: &UrlOrigin) -> Result<Response, ClientError> {
    let encoded = response
        .headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !encoded {
        return Ok(response);
    }
    if response.status.is_success() {
        return Err(ClientError::invalid(&origin.at, "the body is encoded"));
    }
    response.headers.remove(CONTENT_ENCODING);
    response.body = Body::empty();
    Ok(response)
}
