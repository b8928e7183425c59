//! Following a configuration file.

use std::path::PathBuf;
use std::time::Duration;

use poolctl_runtime::Shutdown;
use tokio::time::MissedTickBehavior;

use super::Config;
use crate::gateway::Gateway;

/// How often the file is looked at. Reading a small file is cheap, and unlike a notification it works on every file
/// system and for the links by which Kubernetes swaps mounted files.
const INTERVAL: Duration = Duration::from_millis(500);

/// Gives `gateway` the models of the file at `path` whenever its content changes, until shutdown.
///
/// A file that is refused changes nothing. What is fixed at start (`listen`, `limits`) needs a restart, and a change of it
/// is logged as such.
pub async fn watch(gateway: Gateway, path: PathBuf, mut current: Config, shutdown: Shutdown) {
    // Not what the file says now: it may have changed since it was read.
    let mut seen = Some(current.text.clone());
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = tick.tick() => {}
        }
        let text = match tokio::fs::read_to_string(&path).await {
            Ok(text) => text,
            Err(error) => {
                if seen.take().is_some() {
                    tracing::error!(path = %path.display(), %error, "the configuration cannot be read: keeping what was read before");
                }
                continue;
            }
        };
        if seen.as_ref() == Some(&text) {
            continue;
        }
        seen = Some(text.clone());
        // Host names are resolved while parsing, which may take a while.
        let parsed = tokio::task::spawn_blocking(move || Config::parse(&text)).await;
        match parsed {
            Ok(Ok(config)) => {
                if config.listen != current.listen || config.limits != current.limits {
                    tracing::warn!("a change of listen or limits takes effect at the next start");
                }
                gateway.set_models(config.models.clone());
                gateway.inner.metrics.config_reloads_applied.inc();
                tracing::info!(models = config.models.len(), "took over the changed configuration");
                config.doubts().iter().for_each(|doubt| tracing::warn!("{doubt}"));
                current = config;
            }
            Ok(Err(error)) => {
                gateway.inner.metrics.config_reloads_refused.inc();
                tracing::error!(path = %path.display(), %error, "the changed configuration is refused: keeping the one before");
            }
            Err(error) => tracing::error!(%error, "reading the changed configuration failed"),
        }
    }
}
