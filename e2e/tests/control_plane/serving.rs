//! A claim from the pool to a prediction: the pod is simulated, the model server behind its resolver is real.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use e2e::kwok::{Addresses, LocalWrappers};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _};
use model_wrapper_admin::{
    AdminClient, AdminError, DrainClaims, ModelSource, SpecializeRequest, Timeouts, TokenClaims, TokenSigner,
    WrapperState,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::pods::{self, Outcome, Status};
use crate::tier::{Place, repository};

const REVISION: &str = "digits-cpu-00001";

/// For the requests that still run to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

pub(crate) async fn a_claimed_pod_answers_through_its_resolver(place: Arc<Place>) -> Result<()> {
    let claims = Claims::new(&place)?;
    let api = place.api::<Pod>();
    let pod = claims.warm_pod(&api, "warm").await?;
    let at = claims.wrappers.resolve(&pod).context("nothing stands for the pod")?;

    // The optimistic order: the label and the wrapper's own lock are asked at the same time.
    let (owned, loaded) = tokio::join!(pods::claim(&api, &pod, "claim-1"), claims.specialize(at, &pod, "claim-1"));
    ensure!(matches!(owned, Outcome::Won(_)), "{owned:?}");
    ensure!(loaded?.claim_id == "claim-1");
    let published = pods::publish(&api, &pod, "claim-1", REVISION).await;
    ensure!(matches!(published, Outcome::Won(_)), "{published:?}");
    let stored = api.get("warm").await?;
    ensure!(pods::state(&stored) == Some("serving"), "{stored:?}");
    ensure!(stored.labels().get("serving.knative.dev/revision").map(String::as_str) == Some(REVISION), "{stored:?}");

    let (images, truth) = held_out()?;
    let (status, answer) = predict(&claims, at, &json!({"instances": images})).await?;
    ensure!(status == 200, "{status}: {answer}");
    let labels: Vec<&Value> =
        answer["predictions"].as_array().context("no predictions")?.iter().map(|p| &p["label"]).collect();
    let right = labels.iter().zip(&truth).filter(|(label, truth)| **label == *truth).count();
    ensure!(right * 10 >= truth.len() * 9, "{right} of {} are right: {answer}", truth.len());

    let drained = pods::drain(&api, &pod, "claim-1").await;
    ensure!(matches!(drained, Outcome::Won(_)), "{drained:?}");
    claims.drain(at, &pod).await?;
    let (status, answer) = predict(&claims, at, &json!({"instances": images})).await?;
    ensure!(status == 503, "a draining replica answered {status}: {answer}");
    claims.wrappers.stop(&pod).await;
    ensure!(claims.wrappers.resolve(&pod).is_none());
    Ok(())
}

/// Two claimants for one pod: the apiserver and the wrapper each let one in, and a request for the wrong revision finds nobody.
pub(crate) async fn the_loser_of_a_claim_is_refused_twice(place: Arc<Place>) -> Result<()> {
    let claims = Claims::new(&place)?;
    let api = place.api::<Pod>();
    let pod = claims.warm_pod(&api, "warm").await?;
    let at = claims.wrappers.resolve(&pod).context("nothing stands for the pod")?;
    let (status, answer) = predict(&claims, at, &json!({"instances": []})).await?;
    ensure!(status == 421, "an idle replica answered {status}: {answer}");

    let owned = pods::claim(&api, &pod, "claim-1").await;
    ensure!(matches!(owned, Outcome::Won(_)), "{owned:?}");
    claims.specialize(at, &pod, "claim-1").await?;
    let (lost, refused) = tokio::join!(pods::claim(&api, &pod, "claim-2"), claims.specialize(at, &pod, "claim-2"));
    ensure!(matches!(lost, Outcome::Lost(422)), "{lost:?}");
    match refused {
        Err(AdminError::Conflict(held)) => ensure!(held.claim_id == "claim-1", "{held:?}"),
        other => bail!("{other:?}"),
    }
    let state = claims.admin.state(at.admin).await?;
    ensure!(state.state == WrapperState::Serving && state.claim_id.as_deref() == Some("claim-1"), "{state:?}");
    ensure!(state.pod_uid == pod.metadata.uid, "{state:?}");

    // What stands for one pod does not load for another.
    let other = claims.warm_pod(&api, "other").await?;
    let elsewhere = claims.wrappers.resolve(&other).context("nothing stands for the other pod")?;
    ensure!(elsewhere != at);
    match claims.specialize(elsewhere, &pod, "claim-3").await {
        Err(AdminError::WrongReplica(_)) => Ok(()),
        answer => bail!("{answer:?}"),
    }
}

/// What the autoscaler has: a signing key, the admin client and the resolver.
struct Claims {
    namespace: String,
    model: PathBuf,
    digest: String,
    signer: TokenSigner,
    admin: AdminClient,
    wrappers: LocalWrappers,
}

// === impl Claims ===

impl Claims {
    fn new(place: &Place) -> Result<Self> {
        let model = repository().join("examples/models/digits.onnx");
        let digest = Sha256::digest(fs::read(&model)?).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let signer = TokenSigner::generate()?;
        let wrappers =
            LocalWrappers::new(&model_wrapper()?, signer.public_key(), &place.shared.folder().join("wrappers"))?;
        Ok(Self {
            namespace: place.namespace.clone(),
            model,
            digest: format!("sha256:{digest}"),
            signer,
            admin: AdminClient::new(Timeouts::default()),
            wrappers,
        })
    }

    /// A pod of the pool that kwok made Ready, and a wrapper that stands for it.
    async fn warm_pod(&self, api: &Api<Pod>, name: &str) -> Result<Pod> {
        pods::create(api, name, Status::Still).await?;
        let pod = pods::ready(api, name).await?;
        self.wrappers.start(&pod).await?;
        Ok(pod)
    }

    async fn specialize(
        &self,
        at: Addresses,
        pod: &Pod,
        claim: &str,
    ) -> Result<model_wrapper_admin::SpecializeResponse, AdminError> {
        let request = SpecializeRequest {
            claim_id: claim.to_owned(),
            pod_uid: pod.uid().unwrap_or_default(),
            revision: self.revision(),
            digest: self.digest.clone(),
            model: ModelSource {
                uri: format!("file://{}", self.model.display()),
                format: "onnx".to_owned(),
                name: "digits".to_owned(),
                config: Default::default(),
            },
            container_concurrency: 4,
            timeout_ms: 60_000,
            limits: Default::default(),
        };
        let token = self.signer.sign(&TokenClaims {
            pod_uid: request.pod_uid.clone(),
            claim_id: request.claim_id.clone(),
            digest: request.digest.clone(),
            expires: in_a_minute(),
        });
        self.admin.specialize(at.admin, &request, Some(&token)).await
    }

    async fn drain(&self, at: Addresses, pod: &Pod) -> Result<(), AdminError> {
        let token = self.signer.sign_drain(&DrainClaims::new(pod.uid().unwrap_or_default(), in_a_minute()));
        self.admin.wait_for_drain(at.admin, DRAIN_WITHIN, Some(&token)).await.map(|_| ())
    }

    fn revision(&self) -> String {
        format!("{}/{REVISION}", self.namespace)
    }
}

/// Asks for predictions as the gateway does: status and body.
async fn predict(claims: &Claims, at: Addresses, body: &Value) -> Result<(u16, Value)> {
    let client = HttpClient::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = http::Request::post(format!("http://{}/v1/models/digits:predict", at.traffic))
        .header(http::header::CONTENT_TYPE, "application/json")
        .header("kferving-revision", format!("{}@{}", claims.revision(), claims.digest))
        .body(Full::from(serde_json::to_vec(body)?))?;
    let response = client.request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).with_context(|| String::from_utf8_lossy(&body).into_owned())?))
}

/// Pictures that the model was not trained with, and the digits that they show.
fn held_out() -> Result<(Value, Vec<Value>)> {
    let text = fs::read_to_string(repository().join("examples/models/digits-heldout.json"))?;
    let mut held_out: Value = serde_json::from_str(&text)?;
    let truth = held_out["truth"].as_array().context("no truth")?.clone();
    Ok((held_out["images"].take(), truth))
}

/// The model server of this build, or the one that KFERVING_WRAPPER names.
fn model_wrapper() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KFERVING_WRAPPER") {
        return Ok(PathBuf::from(path));
    }
    let tests = std::env::current_exe()?;
    let build = tests.parent().and_then(Path::parent).context("tests are built into a folder's folder")?;
    Ok(build.join("model-wrapper"))
}

fn in_a_minute() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()) + 60
}
