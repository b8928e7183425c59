//! What a cluster is called and where it lives; everything else follows from that.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Name of the cluster where none is given.
pub const DEFAULT_NAME: &str = "default";

/// Longest name. It becomes part of the node's name, which is a DNS label of 63 characters.
const LONGEST_NAME: usize = 32;

/// Why a cluster cannot be called so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no name for a cluster: expected 1 to {LONGEST_NAME} of a-z, 0-9 and '-', beginning and ending with a letter or digit"
)]
pub struct BadName(String);

/// Which cluster is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    name: String,
    state: PathBuf,
}

impl Place {
    /// The cluster `name` with its state in `state`, or in the checkout's `.cache/cluster/NAME`. The folder is created.
    ///
    /// # Errors
    /// When the name is none, or the folder cannot be made.
    pub fn new(name: &str, state: Option<&Path>) -> anyhow::Result<Self> {
        check_name(name)?;
        let state = state.map_or_else(|| states().join(name), Path::to_owned);
        let failed = |what: &str| format!("{what} the state folder {}", state.display());
        std::fs::create_dir_all(&state).map_err(|e| anyhow::Error::new(e).context(failed("cannot create")))?;
        // One folder has one identity, by whatever path it is reached: leftovers are found by it.
        let state = state.canonicalize().map_err(|e| anyhow::Error::new(e).context(failed("cannot resolve")))?;
        Ok(Self { name: name.to_owned(), state })
    }

    /// Every cluster of this checkout that was ever started here.
    ///
    /// # Errors
    /// When the folder of the states cannot be read.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let states = match std::fs::read_dir(states()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| anyhow::Error::new(e).context("cannot read the clusters' states"))?,
        };
        let names = states.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| check_name(name).is_ok()).map(|name| Self::new(&name, None)).collect()
    }

    /// The name that the caller gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of its only node.
    pub fn node_name(&self) -> String {
        format!("kferving-{}", self.name)
    }

    /// Its directory in every cgroup hierarchy, relative to the mount. Different for two checkouts with a cluster of one name,
    /// and the same for every start, so that the leftovers of an earlier one are found without any record.
    pub fn cgroup_root(&self) -> String {
        let digest = Sha256::digest(self.state.as_os_str().as_encoded_bytes());
        let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("kferving-{}-{short}", self.name)
    }

    /// The folder with everything of it.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A file or folder in its state folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.state.join(relative)
    }

    /// The folder of a component's files, which go when the cluster does.
    pub fn data(&self, component: &str) -> PathBuf {
        self.state.join("data").join(component)
    }

    /// Logs of every component; they stay after `down`.
    pub fn logs(&self) -> PathBuf {
        self.path("log")
    }

    /// What the processes inside print before and between their components' own logs.
    pub fn own_log(&self) -> PathBuf {
        self.path("log/cluster.log")
    }

    /// A folder for the caller's `PATH`, with a kubectl that fits.
    pub fn tools(&self) -> PathBuf {
        self.path("bin")
    }

    /// The kubeconfig for the caller's shell: the API server through the relay on loopback.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }
}

/// What `up` is to make.
#[derive(Clone, Debug)]
pub struct UpSettings {
    /// Which cluster.
    pub place: Place,
    /// Knative's binaries and YAML from this folder instead of the pinned modules.
    pub knative_dir: Option<PathBuf>,
    /// The `cluster` program: it starts itself again inside the namespaces.
    pub executable: PathBuf,
}

fn check_name(name: &str) -> Result<(), BadName> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c != '-');
    let good = name.len() <= LONGEST_NAME
        && name.chars().all(inner)
        && edge(name.chars().next())
        && edge(name.chars().next_back());
    if good { Ok(()) } else { Err(BadName(name.to_owned())) }
}

/// Where the clusters of the checkout that this crate was built from have their state.
fn states() -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace");
    checkout.join(".cache/cluster")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "default", "dev-2", "0"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for bad in ["", "-a", "a-", "A", "a/b", "a_b", "..", long.as_str()] {
            assert_eq!(check_name(bad), Err(BadName(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn the_cgroup_root_is_the_folders_own() {
        let parent = tempfile::tempdir().unwrap();
        let place = |folder: &str| Place::new("a", Some(&parent.path().join(folder))).unwrap();
        assert_eq!(place("x").cgroup_root(), place("y/../x").cgroup_root());
        assert_ne!(place("x").cgroup_root(), place("y").cgroup_root());
        std::os::unix::fs::symlink(parent.path().join("x"), parent.path().join("link")).unwrap();
        assert_eq!(place("x"), place("link"), "one folder by two paths is one cluster");
        assert!(place("x").cgroup_root().starts_with("kferving-a-"));
    }
}
