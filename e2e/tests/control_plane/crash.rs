//! Components of the control plane that die in the middle of claims.
//!
//! They have a control plane of their own, beside the one that the other tests go on using.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::control_plane::{ControlPlane, Part};
use e2e::process::Progress;
use futures::StreamExt as _;
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;

use crate::pods::{self, Outcome, Status};
use crate::tier::{Place, create_namespace, eventually};

const PODS: usize = 24;
const CLAIMANTS: usize = 3;

/// How long a claimant waits for an answer: what is not answered by then is unknown.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

pub(crate) async fn claims_survive_the_death_of_any_part(place: Arc<Place>) -> Result<()> {
    let (control_plane, processes) = place.shared.another("crash").await?;
    for part in [Part::Etcd, Part::Apiserver] {
        claims_survive(&control_plane, part).await.with_context(|| part.name())?;
    }
    for part in [Part::ControllerManager, Part::Scheduler] {
        control_plane.kill(part).await;
        control_plane.restart(part, &Progress::silent()).await?;
    }
    // The controllers work again as well: a namespace gets its account.
    create_namespace(&control_plane.client(), "after").await?;
    ensure!(processes.dead().is_none(), "{:?}", processes.dead());
    control_plane.stop().await;
    ensure!(processes.all().iter().all(|process| !process.is_running()), "{processes:?}");
    Ok(())
}

/// Claims are made before, while and after the part dies and is started again. In the end every pod has one owner, it is the
/// claimant who believes so, and whoever watched has seen it.
async fn claims_survive(control_plane: &ControlPlane, part: Part) -> Result<()> {
    let namespace = create_namespace(&control_plane.client(), "crash").await?;
    let api: Api<Pod> = Api::namespaced(control_plane.client(), &namespace);
    let names: Vec<String> = (0..PODS).map(|number| format!("warm-{number:02}")).collect();
    let pool = try_join_all(names.iter().map(|name| pods::create(&api, name, Status::Still))).await?;
    let seen = watch(api.clone());
    let (before, rest) = pool.split_at(PODS / 3);
    let (during, after) = rest.split_at(PODS / 3);

    let (_, ()) = tokio::join!(claim_all(&api, before), control_plane.kill(part));
    let dead = claim_all(&api, during).await;
    ensure!(dead.iter().all(|outcome| matches!(outcome, Outcome::Unknown(_))), "answered by nobody: {dead:?}");
    control_plane.restart(part, &Progress::silent()).await?;

    let settled = (0..CLAIMANTS).map(|claimant| {
        let (api, pool) = (&api, before.iter().chain(during).chain(after));
        async move { try_join_all(pool.map(|pod| settle(api, pod, claimant))).await }
    });
    let beliefs = try_join_all(settled).await?;
    for (index, pod) in pool.iter().enumerate() {
        let believers: Vec<usize> = (0..CLAIMANTS).filter(|claimant| beliefs[*claimant][index]).collect();
        let [owner] = believers[..] else { bail!("{} has the owners {believers:?}", pod.name_any()) };
        let stored = api.get(&pod.name_any()).await?;
        ensure!(stored.metadata.uid == pod.metadata.uid, "{} is another pod", pod.name_any());
        ensure!(pods::claim_id(&stored) == Some(&*claim_of(owner, pod)), "{stored:?} is not {owner}'s");
    }
    eventually("the watch to have seen every claim", || async {
        let seen = seen.pods.lock();
        let claimed = seen.values().filter(|state| state.as_deref() == Some("claimed")).count();
        if claimed == PODS { Ok(()) } else { Err(format!("{claimed} of {PODS}")) }
    })
    .await
}

/// Every claimant goes for every pod once; nobody waits for an answer longer than [`ANSWER_WITHIN`].
async fn claim_all(api: &Api<Pod>, pool: &[Pod]) -> Vec<Outcome> {
    let attempts = pool.iter().flat_map(|pod| (0..CLAIMANTS).map(move |claimant| attempt(api, pod, claimant)));
    join_all(attempts).await
}

async fn attempt(api: &Api<Pod>, pod: &Pod, claimant: usize) -> Outcome {
    let id = claim_of(claimant, pod);
    let unknown = |_| Outcome::Unknown("no answer".to_owned());
    tokio::time::timeout(ANSWER_WITHIN, pods::claim(api, pod, &id)).await.unwrap_or_else(unknown)
}

/// Claims a pod, or finds out whose it is: true when it is this claimant's. A write whose answer was lost may take effect later
/// than the next look at the pod, so what the pod says is believed only once it is claimed.
async fn settle(api: &Api<Pod>, pod: &Pod, claimant: usize) -> Result<bool> {
    eventually(&format!("an owner of {}", pod.name_any()), || async {
        let outcome = attempt(api, pod, claimant).await;
        let stored = tokio::time::timeout(ANSWER_WITHIN, api.get(&pod.name_any())).await;
        match stored {
            Ok(Ok(stored)) if pods::state(&stored) == Some("claimed") => {
                Ok(pods::claim_id(&stored) == Some(&*claim_of(claimant, pod)))
            }
            other => Err(format!("{outcome:?}, then {other:?}")),
        }
    })
    .await
}

fn claim_of(claimant: usize, pod: &Pod) -> String {
    format!("claimant-{claimant}-{}", pod.name_any())
}

/// The state of each pod by its name, as a watch reports it.
struct Seen {
    pods: Arc<Mutex<BTreeMap<String, Option<String>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn watch(api: Api<Pod>) -> Seen {
    let pods = Arc::<Mutex<BTreeMap<_, _>>>::default();
    let writer = Arc::clone(&pods);
    let task = tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                    writer.lock().insert(pod.name_any(), pods::state(&pod).map(str::to_owned));
                }
                Ok(Event::Init) => writer.lock().clear(),
                Ok(_) => {}
                // It starts again by itself; at a pace, for the server may be down.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Seen { pods, task }
}
