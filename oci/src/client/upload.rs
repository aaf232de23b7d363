//! Requests whose body comes from somebody else.
//!
//! Such a body is sent once: no redirect is followed, and the request goes over another connection
//! only if not a byte of it has left. Not here: what a redirect of an upload means.

use std::time::Duration;

use http::Method;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderValue};

use super::connection::Connection;
use super::endpoint::{Policy, UrlOrigin};
use super::error::{ClientError, chain};
use super::outgoing::{Outgoing, Progress, Upload};
use super::pool::Place;
use super::{Client, Hop, Request, Response, identity_only};

impl Client {
    /// Sends a request with this body, and resolves with the answer's head, which may come before
    /// the body's end: the rest is then sent while the answer is read.
    ///
    /// The other side may be silent for the usual time while it takes the body, and for `answer`
    /// once it has it. With `Expect: 100-continue` the body waits for leave, a second at most.
    /// Dropping the future closes the connection.
    pub async fn upload(
        &self,
        request: Request<'_>,
        mut body: Upload,
        answer: Duration,
    ) -> Result<Response, ClientError> {
        let origin = UrlOrigin::of(&request.url)?;
        let mut headers = request.headers.clone();
        let carries = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
        if let Some(length) = body.length().filter(|length| carries || *length > 0) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let leave = headers.contains_key(EXPECT).then(|| body.wait_for_leave());
        let exchange = Exchange {
            client: self,
            hop: Hop {
                policy: Policy {
                    endpoint: request.endpoint,
                    also: request.also_allowed.as_ref(),
                },
                method: &request.method,
                url: &request.url,
                origin: &origin,
                headers: &headers,
                body: &request.body,
            },
            place: Place {
                endpoint: request.endpoint.id,
                origin: origin.clone(),
            },
            progress: &body.progress(),
            leave: leave.map(std::sync::Arc::new),
            answer,
        };
        let response = exchange.run(Outgoing::Stream(body)).await?;
        identity_only(response, &origin)
    }
}

struct Exchange<'a> {
    client: &'a Client,
    hop: Hop<'a>,
    place: Place,
    progress: &'a Progress,
    leave: Option<std::sync::Arc<super::outgoing::Leave>>,
    answer: Duration,
}

impl Exchange<'_> {
    async fn run(&self, mut body: Outgoing) -> Result<Response, ClientError> {
        let at = &self.hop.origin.at;
        if let Some(connection) = self.client.pool.take(&self.place) {
            match self.over(connection, body).await? {
                Ok(response) => return Ok(response),
                Err(unsent) => body = unsent,
            }
        }
        let dialling = self
            .client
            .dialler
            .dial(self.hop.policy, self.hop.url, self.hop.origin);
        let connection = Connection::start(dialling.await?)
            .await
            .map_err(|error| ClientError::unreachable(at, chain(&error)))?;
        let lost = |_| ClientError::unreachable(at, "connection lost");
        self.over(connection, body).await?.map_err(lost)
    }

    /// The answer over this connection, or the body back if the connection was dead before.
    async fn over(
        &self,
        mut connection: Connection,
        body: Outgoing,
    ) -> Result<Result<Response, Outgoing>, ClientError> {
        let at = &self.hop.origin.at;
        let mut request = self.hop.request(&connection, body)?;
        if let Some(leave) = self.leave.clone() {
            hyper::ext::on_informational(&mut request, move |informed| {
                if informed.status() == http::StatusCode::CONTINUE {
                    leave.give();
                }
            });
        }
        let late = self
            .progress
            .late(self.client.timeouts.body_idle, self.answer);
        let answer = tokio::select! {
            biased;
            answer = connection.send(request) => answer,
            what = late => return Err(ClientError::stalled(at, what)),
        };
        match answer {
            Ok(answer) => {
                let response = self.client.response(answer, connection, &self.place);
                Ok(Ok(response))
            }
            Err(failed) => match failed.unsent {
                Some(body) => Ok(Err(body)),
                None => Err(ClientError::unreachable(at, chain(&failed.error))),
            },
        }
    }
}
