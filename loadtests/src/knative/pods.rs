//! The pods of a Kubernetes namespace as their watch tells them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::{self, Event};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::timeline::PodTimes;

/// Pods by uid, followed until this is dropped.
#[derive(Debug)]
pub struct Pods {
    known: Arc<Mutex<BTreeMap<String, PodTimes>>>,
    follower: JoinHandle<()>,
}

impl Pods {
    /// Follows the pods of `api`.
    #[must_use]
    pub fn follow(api: Api<Pod>) -> Self {
        let known = Arc::new(Mutex::new(BTreeMap::new()));
        let seen = Arc::clone(&known);
        let follower = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => take(&mut seen.lock(), &event, SystemTime::now()),
                    // It begins again by itself.
                    Err(error) => eprintln!("watching pods: {error}"),
                }
            }
        });
        Self { known, follower }
    }

    /// Those of a Service.
    #[must_use]
    pub fn of(&self, service: &str) -> Vec<PodTimes> {
        self.known.lock().values().filter(|pod| pod.service == service).cloned().collect()
    }

    /// Whether no pod is starting or ending.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        self.known.lock().values().all(PodTimes::is_at_rest)
    }

    /// Whether there is none.
    #[must_use]
    pub fn none(&self) -> bool {
        self.known.lock().is_empty()
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

fn take(known: &mut BTreeMap<String, PodTimes>, event: &Event<Pod>, now: SystemTime) {
    match event {
        Event::Init => known.clear(),
        Event::InitApply(pod) | Event::Apply(pod) => {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            known.entry(uid).or_default().observe(pod, now);
        }
        Event::Delete(pod) => {
            known.remove(pod.metadata.uid.as_deref().unwrap_or_default());
        }
        Event::InitDone => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str) -> Pod {
        serde_json::from_value(
            serde_json::json!({"metadata": {"uid": uid, "labels": {"serving.knative.dev/service": "a"}}}),
        )
        .unwrap()
    }

    #[test]
    fn a_pod_is_known_until_it_is_deleted() {
        let mut known = BTreeMap::new();
        take(&mut known, &Event::Apply(pod("1")), SystemTime::UNIX_EPOCH);
        take(&mut known, &Event::Apply(pod("2")), SystemTime::UNIX_EPOCH);
        take(&mut known, &Event::Delete(pod("1")), SystemTime::UNIX_EPOCH);
        assert_eq!(known.keys().collect::<Vec<_>>(), ["2"]);
    }

    #[test]
    fn a_watch_that_begins_again_forgets_what_it_missed() {
        let mut known = BTreeMap::new();
        take(&mut known, &Event::Apply(pod("1")), SystemTime::UNIX_EPOCH);
        for event in [Event::Init, Event::InitApply(pod("2")), Event::InitDone] {
            take(&mut known, &event, SystemTime::UNIX_EPOCH);
        }
        assert_eq!(known.keys().collect::<Vec<_>>(), ["2"]);
    }
}
