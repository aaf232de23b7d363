//! Between hyper and the service: refuses what no service should see, ties bodies to the connection.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode};

use super::body::{ResponseBody, WireBody};
use super::server::ConnInfo;
use super::wire::Wire;

/// The service of one connection.
pub(super) struct Guarded<F> {
    pub(super) service: Arc<F>,
    pub(super) conn: ConnInfo,
    pub(super) wire: Arc<Wire>,
    pub(super) max_target_bytes: usize,
}

impl<F, Fut> hyper::service::Service<Request<Incoming>> for Guarded<F>
where
    F: Fn(Request<Incoming>, ConnInfo) -> Fut,
    Fut: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    type Response = Response<WireBody>;
    type Error = Infallible;
    // Boxed, so that an idle connection does not keep the room for it.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = Arc::clone(&self.wire).begin(request.body().is_end_stream());
        if let Some((status, message)) = self.refuse(&request) {
            let response = refusal(status, message).map(|body| WireBody::new(body, in_flight));
            return Box::pin(std::future::ready(Ok(response)));
        }
        let answer = (self.service)(request, self.conn);
        Box::pin(async move { Ok(answer.await.map(|body| WireBody::new(body, in_flight))) })
    }
}

impl<F> Guarded<F> {
    fn refuse(&self, request: &Request<Incoming>) -> Option<(StatusCode, &'static str)> {
        let target = request.uri().path_and_query().map_or("", |it| it.as_str());
        if target.len() > self.max_target_bytes {
            return Some((StatusCode::URI_TOO_LONG, "request target too long"));
        }
        // RFC 9112, 6.3: length and chunking together are an attempt to smuggle a request; and no
        // client chunks the body of a GET.
        let chunked = request.headers().contains_key(TRANSFER_ENCODING);
        let bodiless = matches!(*request.method(), Method::GET | Method::HEAD);
        if chunked && (bodiless || request.headers().contains_key(CONTENT_LENGTH)) {
            return Some((StatusCode::BAD_REQUEST, "ambiguous request body"));
        }
        None
    }
}

fn refusal(status: StatusCode, message: &'static str) -> Response<ResponseBody> {
    let json = format!(r#"{{"errors":[{{"code":"UNSUPPORTED","message":"{message}"}}]}}"#);
    let mut response = Response::new(ResponseBody::Full(Bytes::from(json)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
    response
}
