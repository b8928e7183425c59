//! The claim's compare-and-swap on a real apiserver.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use e2e::control_plane::Identity;
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt as _};

use crate::pods::{self, Outcome, Status};
use crate::tier::{Place, eventually};

const PODS: usize = 6;
const CLAIMANTS: usize = 8;
const ROUNDS: usize = 4;

/// Every claimant goes for every pod at the same time, while kwok writes the pods' status.
pub(crate) async fn one_claimant_wins_each_pod(place: Arc<Place>) -> Result<()> {
    let api = place.api::<Pod>();
    let pool = restless_pool(&api).await?;
    let claimants = join_all((0..CLAIMANTS).map(|_| own_connection(&place))).await;
    let claimants = claimants.into_iter().collect::<Result<Vec<Api<Pod>>>>()?;
    for round in 0..ROUNDS {
        let before = beats(&api, &pool).await?;
        let ids = (0..CLAIMANTS).map(|claimant| format!("round-{round}-claimant-{claimant}"));
        let races = claimants.iter().zip(ids).map(|(api, id)| go_for_all(api, &pool, id));
        let races = try_join_all(races).await?;
        let mut owners = BTreeMap::new();
        for (id, won) in &races {
            for pod in won {
                let other = owners.insert(pod.clone(), id.clone());
                ensure!(other.is_none(), "{pod} was won by {id} and by {other:?}");
            }
        }
        ensure!(owners.len() == PODS, "not every pod was won: {owners:?}");
        for pod in &pool {
            let stored = api.get(&pod.name_any()).await?;
            ensure!(pods::state(&stored) == Some("claimed"), "{stored:?}");
            ensure!(pods::claim_id(&stored) == owners.get(&pod.name_any()).map(String::as_str), "{stored:?}");
        }
        eventually("a status write to each pod since the round began", || async {
            let now = beats(&api, &pool).await.map_err(|error| error.to_string())?;
            if now.iter().zip(&before).all(|(now, before)| now != before) { Ok(()) } else { Err("none yet".to_owned()) }
        })
        .await?;
        try_join_all(pool.iter().map(|pod| pods::reset(&api, pod))).await?;
    }
    Ok(())
}

/// The same race without the tests: this is what they prevent, and that the race is one.
pub(crate) async fn without_tests_everybody_wins(place: Arc<Place>) -> Result<()> {
    let api = place.api::<Pod>();
    pods::create(&api, "pod", Status::Still).await?;
    let pod = pods::ready(&api, "pod").await?;
    let ids: Vec<String> = (0..CLAIMANTS).map(|claimant| format!("claimant-{claimant}")).collect();
    let outcomes = join_all(ids.iter().map(|id| pods::claim_untested(&api, &pod, id))).await;
    let won = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Won(_))).count();
    // An apiserver that cannot apply a patch after some conflicts answers 409: so not all need to win, but more than one does.
    ensure!(won > 1, "{outcomes:?}");
    Ok(())
}

/// 404 for a pod that is gone, 422 for another of the same name.
pub(crate) async fn a_pod_that_is_gone_or_another_is_lost(place: Arc<Place>) -> Result<()> {
    let api = place.api::<Pod>();
    pods::create(&api, "pod", Status::Still).await?;
    let pod = pods::ready(&api, "pod").await?;
    api.delete("pod", &DeleteParams::default()).await?;
    eventually("the pod to be gone", || async {
        match api.get_opt("pod").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let outcome = pods::claim(&api, &pod, "late").await;
    ensure!(matches!(outcome, Outcome::Lost(404)), "{outcome:?}");
    let another = pods::create(&api, "pod", Status::Still).await?;
    let outcome = pods::claim(&api, &pod, "late").await;
    ensure!(matches!(outcome, Outcome::Lost(422)), "{outcome:?}");
    let outcome = pods::claim(&api, &another, "right").await;
    ensure!(matches!(outcome, Outcome::Won(_)), "{outcome:?}");
    Ok(())
}

/// A leader that was deposed while it claimed must not publish a pod that its successor drains, nor one with another claim.
pub(crate) async fn a_late_write_revives_nothing(place: Arc<Place>) -> Result<()> {
    let api = place.api::<Pod>();
    pods::create(&api, "pod", Status::Restless).await?;
    let pod = pods::ready(&api, "pod").await?;
    let revision = "digits-cpu-00001";
    for (what, outcome) in [
        ("claim", pods::claim(&api, &pod, "claim-1").await),
        ("publish", pods::publish(&api, &pod, "claim-1", revision).await),
        ("drain", pods::drain(&api, &pod, "claim-1").await),
    ] {
        ensure!(matches!(outcome, Outcome::Won(_)), "{what}: {outcome:?}");
    }
    for (what, outcome) in [
        ("publish again", pods::publish(&api, &pod, "claim-1", revision).await),
        ("publish for another claim", pods::publish(&api, &pod, "claim-2", revision).await),
        ("claim", pods::claim(&api, &pod, "claim-3").await),
    ] {
        ensure!(matches!(outcome, Outcome::Lost(422)), "{what}: {outcome:?}");
    }
    let stored = api.get("pod").await?;
    ensure!(pods::state(&stored) == Some("draining") && pods::claim_id(&stored) == Some("claim-1"), "{stored:?}");
    ensure!(!stored.labels().contains_key("serving.knative.dev/revision"), "{stored:?}");
    Ok(())
}

/// Goes for every pod with one claim id; the names of those that were won.
async fn go_for_all(api: &Api<Pod>, pool: &[Pod], id: String) -> Result<(String, Vec<String>)> {
    let mut won = Vec::new();
    for pod in pool {
        if go_for(api, pod, &id).await? {
            won.push(pod.name_any());
        }
    }
    Ok((id, won))
}

/// Goes for a pod as a claimant does: true when it is ours. A conflict (409) is the apiserver giving up between status writes, not
/// necessarily another claimant, so it is asked again while the pod is idle.
async fn go_for(api: &Api<Pod>, pod: &Pod, id: &str) -> Result<bool> {
    loop {
        match pods::claim(api, pod, id).await {
            Outcome::Won(pod) => {
                ensure!(pods::claim_id(&pod) == Some(id), "won {pod:?} with {id}");
                return Ok(true);
            }
            Outcome::Lost(409) if pods::state(&api.get(&pod.name_any()).await?) == Some("idle") => {}
            Outcome::Lost(_) => return Ok(false),
            Outcome::Unknown(error) => anyhow::bail!("{}: {error}", pod.name_any()),
        }
    }
}

async fn restless_pool(api: &Api<Pod>) -> Result<Vec<Pod>> {
    let names: Vec<String> = (0..PODS).map(|number| format!("warm-{number}")).collect();
    try_join_all(names.iter().map(|name| pods::create(api, name, Status::Restless))).await?;
    try_join_all(names.iter().map(|name| pods::ready(api, name))).await
}

/// When each pod's status was last written.
async fn beats(api: &Api<Pod>, pool: &[Pod]) -> Result<Vec<Option<String>>> {
    let stored = try_join_all(pool.iter().map(|pod| async { api.get(&pod.name_any()).await })).await?;
    Ok(stored.iter().map(pods::beat).collect())
}

/// Claimants do not share a connection, which would order their requests.
async fn own_connection(place: &Place) -> Result<Api<Pod>> {
    let kubeconfig = Kubeconfig::read_from(place.shared.control_plane.kubeconfig(&Identity::Admin)?)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Api::namespaced(Client::try_from(config).context("a client of its own")?, &place.namespace))
}
