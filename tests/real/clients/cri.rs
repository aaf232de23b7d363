//! The one CRI call that kubelet and crictl make to pull: `runtime.v1.ImageService/PullImage`.
//!
//! The messages are written by hand with the field numbers of the CRI's `api.proto`; only the fields used here.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use hyper_util::rt::TokioIo;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Endpoint, Uri};

use super::{PULL, Pull};

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AuthConfig {
    #[prost(string, tag = "1")]
    username: String,
    #[prost(string, tag = "2")]
    password: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PullImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
    #[prost(message, optional, tag = "2")]
    auth: Option<AuthConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PullImageResponse {
    #[prost(string, tag = "1")]
    image_ref: String,
}

/// Pulls as kubelet does, with a pull secret where there is an account.
pub(crate) fn pull_image(socket: &Path, pull: &Pull<'_>) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let request = PullImageRequest {
        image: Some(ImageSpec {
            image: pull.image.to_owned(),
        }),
        auth: pull.account.map(|(user, password)| AuthConfig {
            username: user.to_owned(),
            password: password.to_owned(),
        }),
    };
    runtime.block_on(async {
        tokio::time::timeout(PULL, call(socket, request))
            .await
            .with_context(|| format!("PullImage took over {PULL:?}"))?
    })
}

async fn call(socket: &Path, request: PullImageRequest) -> Result<String> {
    let socket = socket.to_owned();
    // The address is not used: the connector goes to the socket.
    let channel = Endpoint::from_static("http://containerd")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                tokio::net::UnixStream::connect(socket)
                    .await
                    .map(TokioIo::new)
            }
        }))
        .await?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    let codec = tonic_prost::ProstCodec::<PullImageRequest, PullImageResponse>::default();
    let path = PathAndQuery::from_static("/runtime.v1.ImageService/PullImage");
    let answer = client
        .unary(tonic::Request::new(request), path, codec)
        .await;
    Ok(answer
        .map_err(|status| anyhow!("PullImage: {:?}: {}", status.code(), status.message()))?
        .into_inner()
        .image_ref)
}
