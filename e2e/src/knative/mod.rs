//! Knative Serving from its released modules, unmodified.
//!
//! What is applied is what the release has, but for three things: images that are to be built (`ko://…`) get the names of those
//! that were, autoscalers of Knative's own Deployments are left out (there is no metrics API here), and keys of `ConfigMap`s are
//! set as [`Settings`] say. It is applied in an order in which nothing has to be tried twice: the webhook configurations come
//! last, when everything that they would judge is there, because until the webhook answers they refuse it all.

mod apply;
mod objects;
mod source;
mod usable;

#[cfg(test)]
mod tests;

pub use source::KnativeSource;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::{Progress, WaitError};

/// The namespace of Knative Serving.
pub const NAMESPACE: &str = "knative-serving";

/// What is asked of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Keys to set: by `ConfigMap`, then by key.
    pub config: BTreeMap<String, BTreeMap<String, String>>,
    /// How long each wait may take. On two cores with images imported all is there in 20 s.
    pub deadline: Duration,
}

/// Why Knative is not usable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its folder is not as it has to be.
    #[error("{} is no folder with Knative Serving: {reason}", dir.display())]
    Source {
        /// The folder.
        dir: PathBuf,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// An object in a YAML file is not as it has to be.
    #[error("{}: {reason}", file.display())]
    Object {
        /// The file.
        file: PathBuf,
        /// Which object, what is wrong.
        reason: String,
    },
    /// A key is to be set in a `ConfigMap` that is not there.
    #[error("there is no ConfigMap {name} to set {keys} in; there are {existing}")]
    NoConfigMap {
        /// The one that is asked for.
        name: String,
        /// The keys that were to be set.
        keys: String,
        /// Those of the release.
        existing: String,
    },
    /// The API server refused an object.
    #[error("{object} was refused: {}", said(source))]
    Refused {
        /// `Kind namespace/name`.
        object: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Something did not come about.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// What the API server said, without the status object that carried it.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        other => other.to_string(),
    }
}

// === impl Settings ===

impl Default for Settings {
    /// Services may start at zero, as those with a warm pool do; 120 s a wait.
    fn default() -> Self {
        let autoscaler = BTreeMap::from([("allow-zero-initial-scale".to_owned(), "true".to_owned())]);
        let config = BTreeMap::from([("config-autoscaler".to_owned(), autoscaler)]);
        Self { config, deadline: Duration::from_secs(120) }
    }
}

/// Applies Knative Serving and waits until it can be used: [`apply`], then [`wait_until_usable`].
///
/// # Errors
/// Names the object that was refused, or what did not come about in time and why.
pub async fn install(
    client: &kube::Client,
    source: &KnativeSource,
    settings: &Settings,
    progress: &Progress,
) -> Result<(), Error> {
    apply(client, source, settings, progress).await?;
    wait_until_usable(client, settings, progress).await
}

/// Applies the objects of Knative Serving. It needs an API server only: nodes and images may come later, but images have to be
/// there before the kubelet asks for them, or it waits ten seconds until it asks again.
///
/// The same objects are applied once: a mark on the namespace says which ones were, and a second call does nothing.
///
/// # Errors
/// Names the object that was refused.
pub async fn apply(
    client: &kube::Client,
    source: &KnativeSource,
    settings: &Settings,
    progress: &Progress,
) -> Result<(), Error> {
    let objects = objects::read(source, settings)?;
    apply::all(client, &objects, settings.deadline, progress).await
}

/// Waits until Knative's Deployments are available and its webhook answers.
///
/// # Errors
/// Says what is not as it should be.
pub async fn wait_until_usable(client: &kube::Client, settings: &Settings, progress: &Progress) -> Result<(), Error> {
    usable::deployments(client, settings.deadline, progress).await?;
    usable::webhook(client, settings.deadline, progress).await
}
