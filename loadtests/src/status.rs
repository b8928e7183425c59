//! What `poolctl up` says of its models and pools, as far as scenarios need it.

use std::net::SocketAddr;

use anyhow::Context;
use serde::Deserialize;

use crate::scrape::Page;

/// `GET /status` of the admin port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Status {
    /// Models with their replicas.
    pub models: Vec<ModelStatus>,
    /// Warm pools.
    pub pools: Vec<PoolStatus>,
}

/// One model.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// Replicas by device.
    #[serde(default)]
    pub variants: Vec<VariantStatus>,
}

/// A model on one class of devices.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct VariantStatus {
    /// Replicas that exist, in any state.
    #[serde(default)]
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Its id, as `kferving-replica` names it.
    pub id: String,
    /// Its process.
    #[serde(default)]
    pub pid: Option<u32>,
    /// idle, claimed, serving, draining or retired.
    pub state: String,
    /// Requests that the gateway has on it.
    #[serde(default)]
    pub in_flight: u32,
}

/// One warm pool.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Replicas free to be claimed.
    pub idle: u64,
    /// Replicas that it should hold.
    pub size: u64,
    /// Claims that it served.
    #[serde(default)]
    pub hits: u64,
    /// Claims that found it empty.
    #[serde(default)]
    pub misses: u64,
    /// Its replicas.
    #[serde(default)]
    pub replicas: Vec<ReplicaStatus>,
}

impl Status {
    /// Asks the admin port.
    ///
    /// # Errors
    /// It does not answer, or answers something else.
    pub async fn ask(admin: SocketAddr) -> anyhow::Result<Self> {
        Self::read(&mut Page::new(admin, Self::PATH)).await
    }

    /// Where the admin port shows it.
    pub const PATH: &str = "/status";

    /// Reads it off its page.
    ///
    /// # Errors
    /// The page does not answer, or holds something else.
    pub async fn read(page: &mut Page) -> anyhow::Result<Self> {
        let body = page.read().await?;
        serde_json::from_slice(&body).with_context(|| format!("reading {}", page.url()))
    }

    /// Whether `model` is known and has no replica in any state.
    #[must_use]
    pub fn at_zero(&self, model: &str) -> bool {
        self.models.iter().any(|known| known.name == model) && self.replicas_of(model).next().is_none()
    }

    /// Whether every pool holds exactly the idle replicas it should.
    #[must_use]
    pub fn pools_full(&self) -> bool {
        self.pools.iter().all(|pool| pool.idle == pool.size)
    }

    /// Replicas of `model` in any state.
    pub fn replicas_of<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a ReplicaStatus> {
        let models = self.models.iter().filter(move |known| known.name == model);
        models.flat_map(|model| &model.variants).flat_map(|variant| &variant.replicas)
    }

    /// Replicas of models and of pools, each once.
    #[must_use]
    pub fn replicas(&self) -> Vec<&ReplicaStatus> {
        let of_models = self.models.iter().flat_map(|model| &model.variants).flat_map(|variant| &variant.replicas);
        let mut all: Vec<_> = of_models.chain(self.pools.iter().flat_map(|pool| &pool.replicas)).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all.dedup_by(|one, other| one.id == other.id);
        all
    }

    /// Replicas of `model` that serve.
    #[must_use]
    pub fn serving(&self, model: &str) -> usize {
        self.replicas_of(model).filter(|replica| replica.state == "serving").count()
    }

    /// Replicas that belong to models, in any state.
    #[must_use]
    pub fn owned(&self) -> usize {
        self.models.iter().flat_map(|model| &model.variants).map(|variant| variant.replicas.len()).sum()
    }

    /// Replicas free in any pool.
    #[must_use]
    pub fn idle(&self) -> u64 {
        self.pools.iter().map(|pool| pool.idle).sum()
    }

    /// Claims that pools served, and those that found them empty.
    #[must_use]
    pub fn claims(&self) -> Claims {
        self.pools.iter().fold(Claims::default(), |sum, pool| Claims {
            hits: sum.hits + pool.hits,
            misses: sum.misses + pool.misses,
        })
    }
}

/// How claims went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Served from the pool.
    pub hits: u64,
    /// Found it empty.
    pub misses: u64,
}

impl Claims {
    /// Those since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self { hits: self.hits.saturating_sub(earlier.hits), misses: self.misses.saturating_sub(earlier.misses) }
    }

    /// Share that the pool served; 0 where there was no claim.
    #[must_use]
    pub fn hit_rate(self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            all => self.hits as f64 / all as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        serde_json::from_str(
            r#"{"models": [
                {"name": "a", "namespace": "default", "url": "http://x", "conditions": [], "variants": [
                    {"device": "cpu", "desired": 1, "replicas": [
                        {"id": "r1", "pid": 7, "state": "serving", "address": "127.0.0.1:1", "inFlight": 2},
                        {"id": "r2", "pid": 8, "state": "draining", "address": "127.0.0.1:2", "inFlight": 0}]}]},
                {"name": "b", "namespace": "default", "url": "http://x", "conditions": [], "variants": []}],
              "pools": [{"name": "default", "idle": 3, "claimed": 2, "size": 4, "hits": 6, "misses": 2, "replicas": [{"id": "r1", "pid": 7, "state": "claimed"}, {"id": "r3", "pid": 9, "state": "idle"}]}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn zero_means_no_replica_in_any_state_of_a_known_model() {
        assert!(status().at_zero("b"));
        assert!(!status().at_zero("a"));
        assert!(!status().at_zero("unknown"));
        let mut draining = status();
        draining.models[0].variants[0].replicas.remove(0);
        assert!(!draining.at_zero("a"));
    }

    #[test]
    fn replicas_and_pools_are_counted() {
        let status = status();
        assert_eq!((status.serving("a"), status.serving("b")), (1, 0));
        assert_eq!(status.replicas().iter().filter_map(|replica| replica.pid).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!((status.owned(), status.idle(), status.pools_full()), (2, 3, false));
        assert_eq!(status.claims().hit_rate(), 0.75);
        assert_eq!(status.claims().since(status.claims()).hit_rate(), 0.0);
    }
}
