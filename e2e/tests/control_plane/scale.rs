//! Some hundreds of pods at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use crate::pods::{self, Outcome, Status};
use crate::tier::{Place, eventually};

const PODS: usize = 300;

/// Calls that one client has in flight.
const AT_ONCE: usize = 16;

pub(crate) async fn hundreds_of_pods_come_are_claimed_and_go(place: Arc<Place>) -> Result<()> {
    let api = place.api::<Pod>();
    let names: Vec<String> = (0..PODS).map(|number| format!("warm-{number:03}")).collect();
    let creations: Vec<_> = names.iter().map(|name| pods::create(&api, name, Status::Still)).collect();
    stream::iter(creations).buffer_unordered(AT_ONCE).try_collect::<Vec<Pod>>().await?;
    let pool = eventually("all pods to be Ready", || async {
        let pods = list(&api).await?;
        let ready = pods.iter().filter(|pod| pods::is_ready(pod)).count();
        if ready == PODS { Ok(pods) } else { Err(format!("{ready} of {PODS}")) }
    })
    .await?;
    let addresses: BTreeSet<_> = pool.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    ensure!(addresses.len() == PODS, "{} addresses for {PODS} pods", addresses.len());

    let races: Vec<_> = pool.iter().map(|pod| race(&api, pod)).collect();
    stream::iter(races).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let claimed = ListParams::default().labels("kferving.dev/state=claimed");
    ensure!(api.list(&claimed).await?.items.len() == PODS);

    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    eventually("all pods to be gone", || async {
        let left = list(&api).await?.len();
        if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
    })
    .await
}

/// Two claimants go for a pod: one wins.
async fn race(api: &Api<Pod>, pod: &Pod) -> Result<()> {
    let (first, second) = tokio::join!(pods::claim(api, pod, "first"), pods::claim(api, pod, "second"));
    let one = matches!((&first, &second), (Outcome::Won(_), Outcome::Lost(_)) | (Outcome::Lost(_), Outcome::Won(_)));
    ensure!(one, "{first:?} and {second:?}");
    Ok(())
}

async fn list(api: &Api<Pod>) -> Result<Vec<Pod>, String> {
    Ok(api.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items)
}
