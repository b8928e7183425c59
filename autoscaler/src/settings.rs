//! What can be set about the autoscaler.

use std::time::Duration;

use autoscaler_policy::claim;

/// Settings of an [`crate::Autoscaler`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this process towards gateways and in claims.
    pub identity: String,
    /// The claim protocol: its order, deadlines and bounds.
    pub claims: claim::Settings,
    /// Time between two evaluations of all models. Held requests do not wait for it.
    pub tick: Duration,
    /// A store that has not answered by then has an unknown outcome.
    pub store_timeout: Duration,
    /// Longest that a drain may take beyond the timeout of its revision's requests.
    pub drain_grace: Duration,
    /// How many effects of each kind run at a time.
    pub limits: EffectLimits,
}

/// Bounds on effects that run at a time; more wait in order. Each kind has its own, so that drains, which last as long as
/// the longest request, never hold up a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectLimits {
    /// Reads and writes of the store.
    pub store: usize,
    /// Models being loaded.
    pub specialize: usize,
    /// Questions to wrappers, and connections opened ahead.
    pub query: usize,
    /// Replicas being drained.
    pub drain: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            identity: "autoscaler".to_owned(),
            claims: claim::Settings::default(),
            tick: Duration::from_secs(1),
            store_timeout: Duration::from_secs(5),
            drain_grace: Duration::from_secs(5),
            limits: EffectLimits::default(),
        }
    }
}

impl Default for EffectLimits {
    fn default() -> Self {
        // An API server answers a few hundred writes a second per client; wrappers load on their own machines.
        Self { store: 64, specialize: 256, query: 64, drain: 1024 }
    }
}
