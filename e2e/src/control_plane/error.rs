//! What can go wrong when a control plane starts.

use std::path::PathBuf;

use crate::process::{SpawnError, WaitError};

/// Why a control plane does not run.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A program is not in the cache.
    #[error(transparent)]
    Program(#[from] crate::components::Error),
    /// A file of the state folder cannot be read or written.
    #[error("{what} {}: {source}", path.display())]
    State {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key or certificate cannot be made, or the one that was kept cannot be used.
    #[error("certificate of {of}: {source}")]
    Certificate {
        /// Whom it is for.
        of: String,
        /// What is wrong.
        source: rcgen::Error,
    },
    /// No port to listen on.
    #[error("no free port on {address}: {source}")]
    Port {
        /// Where.
        address: std::net::IpAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A kubeconfig cannot be used.
    #[error("kubeconfig {}: {source}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A program could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A program died or did not become ready.
    #[error(transparent)]
    Wait(#[from] WaitError),
}
