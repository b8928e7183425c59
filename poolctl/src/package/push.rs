//! Sends an image to a registry.

use std::future::Future;
use std::io::Read;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::{HeaderValue, StatusCode};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::{Client, RegistryOperation};
use poolctl_image::{Reference, StoredImage};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::credentials;

/// What is read from a blob at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks that wait for the network: enough that reading never holds it up.
const CHUNKS_READ_AHEAD: usize = 4;

/// Longest that a registry may take to be connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest that a registry may take to answer what carries no blob. One that has to look into a remote store takes seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// An image that is in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pushed {
    /// By which anybody gets exactly this image: `REGISTRY/NAME@sha256:HEX`.
    pub(super) reference: String,
    /// Layers and configurations that were sent.
    pub(super) uploaded: usize,
    /// Those that the registry had.
    pub(super) present: usize,
}

/// Sends what the registry does not have yet, and the manifest.
///
/// # Errors
/// The registry cannot be reached, or refuses.
pub(super) async fn push(image: &StoredImage, to: &Reference) -> anyhow::Result<Pushed> {
    // one that is installed already serves as well
    let _ = rustls::crypto::ring::default_provider().install_default();
    let protocol = if is_loopback(to.registry()) { ClientProtocol::Http } else { ClientProtocol::Https };
    let user_agent = concat!("poolctl/", env!("CARGO_PKG_VERSION"));
    let client = Client::new(ClientConfig {
        protocol,
        use_monolithic_push: true,
        user_agent,
        connect_timeout: Some(CONNECT_TIMEOUT),
        // its read timeout would count the time that a blob takes to be sent
        read_timeout: None,
        ..ClientConfig::default()
    });
    let refused = |error: OciDistributionError| anyhow::anyhow!("--push {to}: {}", explain(to, &error));

    let credentials = credentials::of(to.registry()).context("--push")?;
    within(ANSWER_TIMEOUT, to, client.auth(to, &credentials, RegistryOperation::Push)).await?.map_err(refused)?;
    let (mut uploaded, mut present) = (0, 0);
    for blob in image.blobs() {
        let digest = blob.digest().to_string();
        if within(ANSWER_TIMEOUT, to, client.blob_exists(to, &digest)).await?.map_err(refused)? {
            present += 1;
            continue;
        }
        let (taken, takes) = watch::channel(());
        let content = chunks(image.open_blob(blob)?).inspect(move |_| taken.send_replace(()));
        let sending = client.push_blob_stream(to, content, &digest, Some(blob.size()));
        while_taken(ANSWER_TIMEOUT, to, takes, sending).await?.map_err(refused)?;
        uploaded += 1;
    }
    let media_type =
        HeaderValue::from_str(image.media_type().as_ref()).context("the image's manifest has an odd type")?;
    let manifest = client.push_manifest_raw(to, image.manifest_bytes().to_vec(), media_type);
    within(ANSWER_TIMEOUT, to, manifest).await?.map_err(refused)?;
    let reference = format!("{}/{}@{}", to.registry(), to.repository(), image.digest());
    Ok(Pushed { reference, uploaded, present })
}

/// What the registry answers, unless it takes too long.
async fn within<T>(limit: Duration, to: &Reference, call: impl Future<Output = T>) -> anyhow::Result<T> {
    let answered = tokio::time::timeout(limit, call).await;
    answered.map_err(|_| anyhow::anyhow!("--push {to}: {} gave no answer within {limit:?}", to.registry()))
}

/// What the registry answers to what it takes, unless it takes nothing for too long.
async fn while_taken<T>(
    limit: Duration,
    to: &Reference,
    mut takes: watch::Receiver<()>,
    call: impl Future<Output = T>,
) -> anyhow::Result<T> {
    let mut call = pin!(call);
    loop {
        let taken = tokio::select! {
            biased;
            answer = &mut call => return Ok(answer),
            taken = within(limit, to, takes.changed()) => taken?,
        };
        if taken.is_err() {
            // it has all of it
            return within(limit, to, call).await;
        }
    }
}

/// A blob's content, read on a thread of its own.
fn chunks(
    mut content: impl Read + Send + 'static,
) -> impl Stream<Item = Result<Bytes, OciDistributionError>> + Send + 'static {
    let (send, receive) = mpsc::channel(CHUNKS_READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut chunk = BytesMut::zeroed(CHUNK_BYTES);
            let read = match content.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => Ok(chunk.split_to(read).freeze()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(OciDistributionError::from(error)),
            };
            let is_last = read.is_err();
            // nobody listens any more: the request ended without it
            if send.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    });
    ReceiverStream::new(receive)
}

/// Registries on this machine are spoken to without TLS, as Docker does.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn explain(to: &Reference, error: &OciDistributionError) -> String {
    let login = |error: &dyn std::error::Error| {
        format!(
            "the registry does not let you in ({error}): `docker login {}` keeps credentials that are used here",
            to.registry()
        )
    };
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => login(error),
        OciDistributionError::RequestError(request) => match request.status() {
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => login(error),
            Some(status) => format!("{} answered {status}", to.registry()),
            None => {
                let mut cause: &dyn std::error::Error = request;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                format!("{} does not answer as a registry: {cause}", to.registry())
            }
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_registry_that_says_nothing_is_not_waited_for_for_ever() {
        let to: Reference = "127.0.0.1:5000/team/digits:v1".parse().unwrap();
        let silent = within(Duration::from_millis(1), &to, std::future::pending::<()>()).await.unwrap_err();
        let said = "--push 127.0.0.1:5000/team/digits:v1: 127.0.0.1:5000 gave no answer within 1ms";
        assert_eq!(silent.to_string(), said);
    }

    #[tokio::test]
    async fn a_registry_is_waited_for_while_it_takes_a_blob() {
        let to: Reference = "127.0.0.1:5000/team/digits:v1".parse().unwrap();
        let limit = Duration::from_secs(1);
        let (taken, takes) = watch::channel(());
        let slow = async {
            for _ in 0..6 {
                tokio::time::sleep(limit / 5).await;
                taken.send_replace(());
            }
        };
        while_taken(limit, &to, takes, slow).await.unwrap();
    }

    #[tokio::test]
    async fn a_registry_that_stops_taking_a_blob_is_given_up_also_at_its_end() {
        let to: Reference = "127.0.0.1:5000/team/digits:v1".parse().unwrap();
        let limit = Duration::from_millis(20);
        for all_taken in [false, true] {
            let (taken, takes) = watch::channel(());
            taken.send_replace(());
            let taken = (!all_taken).then_some(taken);
            let silent = while_taken(limit, &to, takes, std::future::pending::<()>()).await.unwrap_err();
            assert!(silent.to_string().ends_with("gave no answer within 20ms"), "{silent}");
            drop(taken);
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in
            ["docker.io", "localhost.example.com:5000", "10.0.0.1:5000", "registry", "127.0.0.1.example.com"]
        {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
