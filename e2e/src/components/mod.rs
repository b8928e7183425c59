//! The programs of the cluster: Go modules of pinned versions, built once and cached by version.
//!
//! Nothing of theirs is in this repository. Each folder of `e2e/components` is a Go module with `tool` lines, which name the
//! programs and their version, and a `go.sum`, which says that what is fetched is what was seen here. One module per component:
//! their dependencies conflict. A build depends on that folder, on the flags and on Go's version, and on nothing else; their hash
//! names the folder in the cache, so that a change of one component builds that one again and a second checkout builds nothing.

mod build;
mod cache;
mod catalog;
mod module;
mod plan;
mod toolchain;

#[cfg(test)]
mod tests;

pub use cache::{Binaries, Cache};
pub use module::{GoVersion, ModuleError};

use std::fmt;
use std::path::PathBuf;

/// Something that is built from one Go module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The store: `etcd`.
    Etcd,
    /// What a control plane needs: `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `kubectl`.
    Kubernetes,
    /// What a node needs on top: `kubelet`, `kube-proxy`. Of the same module; apart, because tests of the control plane do without.
    KubernetesNode,
    /// `containerd`, `containerd-shim-runc-v2`, `ctr`.
    Containerd,
    /// `coredns`.
    CoreDns,
    /// The program of every pod's sandbox, `pause`.
    Pause,
    /// Knative Serving: `controller`, `webhook`, `autoscaler`, `activator`, `queue`, and its configuration.
    Knative,
    /// Simulated nodes and pods: `kwok`.
    Kwok,
    /// A container registry, `registry`: the one that the distribution specification came from.
    Registry,
    /// Knative's conformance suite of an ingress, `ingress.test`, and the programs of its test images.
    NetworkingSuites,
    /// Knative's conformance and end-to-end suites of Serving, `*.test`, and the programs of their test images.
    ServingSuites,
}

/// Why there are no binaries.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No place for the cache.
    #[error("there is no folder for the cache of binaries: set KFERVING_CACHE, XDG_CACHE_HOME or HOME")]
    NoCache,
    /// The component's folder does not describe a build.
    #[error("component {component}: {source}")]
    Module {
        /// Which.
        component: Component,
        /// What is wrong with it.
        source: ModuleError,
    },
    /// There is no Go that can build it, and none could be fetched.
    #[error("{component} needs Go {needed} or newer: {reason}")]
    NoGo {
        /// Which.
        component: Component,
        /// The version in its `go.mod`.
        needed: GoVersion,
        /// What was tried and why it failed.
        reason: String,
    },
    /// Go refused.
    #[error("{component} {version} was not built ({what}):\n{output}")]
    Build {
        /// Which.
        component: Component,
        /// Its version.
        version: String,
        /// The step and how it ended.
        what: String,
        /// The last lines of what was printed.
        output: String,
    },
    /// A file or folder cannot be read or written.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Asked for a program that no ensured component has.
    #[error("there is no program {name} among those of {}", list(of))]
    NoProgram {
        /// Its name.
        name: String,
        /// The components that were ensured.
        of: Vec<Component>,
    },
}

// === impl Component ===

impl Component {
    /// Every component, in the order in which they are best built: a control plane can start after the first two.
    pub const ALL: &'static [Self] = &[
        Self::Etcd,
        Self::Kubernetes,
        Self::KubernetesNode,
        Self::Containerd,
        Self::CoreDns,
        Self::Pause,
        Self::Knative,
        Self::Kwok,
        Self::Registry,
        Self::NetworkingSuites,
        Self::ServingSuites,
    ];

    /// Its name on the command line and in the cache.
    pub fn name(self) -> &'static str {
        catalog::description(self).name
    }

    /// The component of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|component| component.name() == name)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn list(components: &[Component]) -> String {
    components.iter().map(|component| component.name()).collect::<Vec<_>>().join(", ")
}
