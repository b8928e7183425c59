//! What must be on the machine before a cluster can start.

use std::path::{Path, PathBuf};

/// Folders in which system programs lie, besides those of the caller's `PATH`.
const SYSTEM_FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Folders in which distributions and Kubernetes' own packages put the CNI plugins.
const CNI_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// The plugins of the pods' network.
const CNI_PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

/// Programs, with the Debian package of each.
const PROGRAMS: [(&str, &str); 7] = [
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
];

/// What is not there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Missing {
    /// The caller may not make namespaces.
    #[error("a cluster needs root, for its namespaces and cgroups: run this as root")]
    Root,
    /// Programs of the system.
    #[error(
        "missing on this machine: {}. Debian and Ubuntu: {}apt-get install -y {}",
        names.join(", "),
        if *lists_known { "" } else { "apt-get update && " },
        packages.join(" ")
    )]
    Programs {
        /// What was looked for.
        names: Vec<String>,
        /// The packages that have it.
        packages: Vec<String>,
        /// Whether apt has package lists.
        lists_known: bool,
    },
}

/// Where the programs of the system are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct System {
    /// The folder with the CNI plugins.
    pub cni_plugins: PathBuf,
    /// runc.
    pub runc: PathBuf,
    /// A `PATH` that has every program.
    pub path: String,
}

/// Looks for everything that a cluster needs.
///
/// # Errors
/// Naming all that is missing, and the command that installs it.
pub(super) fn check() -> Result<System, Missing> {
    root()?;
    let caller = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&caller).chain(SYSTEM_FOLDERS.map(PathBuf::from)).collect();
    let lists_known = std::fs::read_dir("/var/lib/apt/lists").is_ok_and(|lists| lists.count() > 2);
    look(&folders, &CNI_FOLDERS.map(PathBuf::from), lists_known)
}

/// Whether the caller may make namespaces at all.
///
/// # Errors
/// When not.
pub(super) fn root() -> Result<(), Missing> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Missing::Root) }
}

fn look(folders: &[PathBuf], cni: &[PathBuf], lists_known: bool) -> Result<System, Missing> {
    let (mut names, mut packages) = (Vec::new(), Vec::new());
    let mut lack = |name: &str, package: &str| {
        names.push(name.to_owned());
        if !packages.iter().any(|known| known == package) {
            packages.push(package.to_owned());
        }
    };
    let find = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|file| is_program(file));
    for (program, package) in PROGRAMS {
        if find(program).is_none() {
            lack(program, package);
        }
    }
    let complete = |folder: &&PathBuf| CNI_PLUGINS.iter().all(|plugin| is_program(&folder.join(plugin)));
    let plugins = cni.iter().find(complete);
    if plugins.is_none() {
        lack("CNI plugins", "containernetworking-plugins");
    }
    match (plugins, find("runc")) {
        (Some(plugins), Some(runc)) if names.is_empty() => {
            let path = std::env::join_paths(folders).unwrap_or_default().to_string_lossy().into_owned();
            Ok(System { cni_plugins: plugins.clone(), runc, path })
        }
        _ => Err(Missing::Programs { names, packages, lists_known }),
    }
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(folder: &Path, name: &str) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(name), "").unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn all_that_is_missing_is_named_with_one_command() {
        let folder = tempfile::tempdir().unwrap();
        let (programs, cni) = (folder.path().join("bin"), folder.path().join("cni"));
        for present in ["ip", "mount", "unshare", "nsenter", "conntrack"] {
            program(&programs, present);
        }
        std::fs::write(programs.join("runc"), "not executable").unwrap();
        let missing = look(std::slice::from_ref(&programs), std::slice::from_ref(&cni), false).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "missing on this machine: runc, iptables, CNI plugins. Debian and Ubuntu: apt-get update && apt-get install -y runc \
             iptables containernetworking-plugins"
        );

        for present in ["runc", "iptables"] {
            program(&programs, present);
        }
        for plugin in CNI_PLUGINS {
            program(&cni, plugin);
        }
        let system =
            look(&[folder.path().to_owned(), programs.clone()], &[folder.path().to_owned(), cni.clone()], true);
        let system = system.unwrap();
        assert_eq!(system.cni_plugins, cni);
        assert_eq!(system.runc, programs.join("runc"));
        assert!(system.path.contains(programs.to_str().unwrap()));
    }
}
