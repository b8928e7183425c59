//! The cluster's own view of the file system. The mount namespace is private: nothing here is seen outside.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::super::settings::Place;

/// Global settings of the machine that the kubelet writes, namespaces or not. Plain files with the machine's present values lie
/// over them.
const MASKED: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Paths that are fixed in Kubernetes' and CNI's programs and in everything that works with them (device plugins, log collectors),
/// with the folder of the cluster's state that lies there.
const OVER: [(&str, &str); 3] =
    [("/var/lib/kubelet", "data/kubelet"), ("/var/lib/cni", "data/cni"), ("/var/log", "log/node")];

/// Prepares the mounts of the calling process's namespace, before anything else is started in it.
///
/// # Errors
/// When a mount fails.
pub(super) fn prepare(place: &Place) -> anyhow::Result<()> {
    own_run()?;
    own_sys()?;
    for (target, source) in OVER {
        let source = place.path(source);
        fs::create_dir_all(&source).with_context(|| format!("cannot make {}", source.display()))?;
        // An empty folder of the machine, where there was none. It stays: another cluster may have mounted on it by now.
        fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
        bind(&source, Path::new(target))?;
    }
    mask_sysctls(place)?;
    // What a pod mounts "bidirectionally" must reach the node, as on any other: all are peers of one another from here on, but
    // not of the machine's.
    rustix::mount::mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .context("cannot share the mounts among the pods")
}

/// `/run` is where sockets, locks and network namespaces have their fixed names.
fn own_run() -> anyhow::Result<()> {
    rustix::mount::mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755")
        .context("cannot mount a /run of the cluster's own")
}

/// A sysfs shows the network of the namespace in which it was mounted. The cgroups stay where they were.
fn own_sys() -> anyhow::Result<()> {
    let aside = Path::new("/run/cgroup");
    fs::create_dir(aside).context("cannot make /run/cgroup")?;
    let cgroups = Path::new("/sys/fs/cgroup");
    bind(cgroups, aside)?;
    rustix::mount::unmount("/sys", UnmountFlags::DETACH).context("cannot unmount the machine's /sys")?;
    rustix::mount::mount("sysfs", "/sys", "sysfs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .context("cannot mount a /sys of the cluster's own")?;
    bind(aside, cgroups)?;
    rustix::mount::unmount(aside, UnmountFlags::DETACH).context("cannot unmount /run/cgroup")?;
    fs::remove_dir(aside).context("cannot remove /run/cgroup")
}

/// No process of the cluster changes a setting of the machine: all but the network's, which is its own, are read-only, and those
/// that the kubelet insists on are files.
fn mask_sysctls(place: &Place) -> anyhow::Result<()> {
    let all = Path::new("/proc/sys");
    let network = Path::new("/proc/sys/net");
    let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    bind(network, network)?;
    bind(all, all)?;
    rustix::mount::mount_remount(all, flags | MountFlags::RDONLY, c"").context("cannot make /proc/sys read-only")?;
    for setting in MASKED {
        let original = all.join(setting);
        let mask = place.data("sysctl").join(setting);
        fs::create_dir_all(mask.parent().expect("the setting is in a folder"))
            .context("cannot make the masks' folder")?;
        let value = fs::read(&original).with_context(|| format!("cannot read {}", original.display()))?;
        fs::write(&mask, value).with_context(|| format!("cannot write {}", mask.display()))?;
        bind(&mask, &original)?;
    }
    Ok(())
}

fn bind(source: &Path, target: &Path) -> anyhow::Result<()> {
    rustix::mount::mount_bind_recursive(source, target)
        .with_context(|| format!("cannot mount {} on {}", source.display(), target.display()))
}
