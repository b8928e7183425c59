//! The programs read these configurations themselves in the tests with root; here it is that nothing of this machine leaks in.

use std::path::{Path, PathBuf};

use super::super::prerequisites::System;
use super::containerd::Snapshotter;
use super::*;

fn containerd() -> Containerd {
    Containerd {
        binary: "/cache/containerd".into(),
        system: System { cni_plugins: "/opt/cni/bin".into(), runc: "/usr/sbin/runc".into(), path: "/bin".into() },
        state: "/state/\"quoted\"/containerd".into(),
        network: "/state/network".into(),
        pause_image: "dev.local/pause:v1",
    }
}

#[test]
fn containerd_keeps_its_state_in_the_clusters_folder() {
    let config = containerd().config(Snapshotter::Overlay);
    for line in [
        "version = 3",
        "root = \"/state/\\\"quoted\\\"/containerd/root\"",
        "state = \"/run/containerd\"",
        "snapshotter = \"overlayfs\"",
        "sandbox = \"dev.local/pause:v1\"",
        "restrict_oom_score_adj = true",
        "disable_apparmor = true",
        "BinaryName = \"/usr/sbin/runc\"",
        "bin_dirs = [\"/opt/cni/bin\"]",
        "conf_dir = \"/state/network\"",
    ] {
        assert!(config.lines().any(|found| found == line), "{line} is not in\n{config}");
    }
    assert!(containerd().config(Snapshotter::Native).contains("snapshotter = \"native\""));
}

#[test]
fn a_shared_memory_folder_is_no_overlay() {
    assert_eq!(Snapshotter::for_folder(Path::new("/proc")).unwrap(), Snapshotter::Overlay);
    Snapshotter::for_folder(Path::new("/no/such/folder")).unwrap_err();
}

#[test]
fn the_kubelet_stays_below_the_clusters_cgroup() {
    let kubelet = Kubelet {
        binary: "kubelet".into(),
        kubeconfig: "kubelet.yaml".into(),
        client_ca: "/pki/ca.crt".into(),
        node_name: "kferving-a".into(),
        cgroup_root: "kferving-a-1234".into(),
        config_folder: PathBuf::from("/state/kubelet"),
    };
    let config = kubelet.config(Path::new("/state/resolv.conf"));
    assert_eq!(config["cgroupRoot"], "/kferving-a-1234");
    assert_eq!(config["cgroupDriver"], "cgroupfs");
    assert_eq!(config["failCgroupV1"], false);
    assert_eq!(config["clusterDNS"][0], "10.96.0.10");
    assert_eq!(config["resolvConf"], "/state/resolv.conf");
}

#[test]
fn the_service_of_the_dns_has_the_address_that_the_kubelet_tells() {
    let objects = dns_objects("dev.local/coredns:v1");
    let service = objects.iter().find(|object| object["kind"] == "Service").unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.10");
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let template = &deployment["spec"]["template"];
    assert_eq!(template["metadata"]["labels"], service["spec"]["selector"], "the Service selects the pods");
    assert_eq!(template["spec"]["containers"][0]["image"], "dev.local/coredns:v1");
}
