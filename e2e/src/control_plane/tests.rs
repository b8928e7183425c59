use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kube::config::Kubeconfig;

use super::ports::ReservedPorts;
use super::{ControlPlaneSettings, EtcdSync, Identity, Part, Pki, Ports, flags, kubeconfig};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn of_a_cluster(state: &Path) -> ControlPlaneSettings {
    ControlPlaneSettings::at(state, IpAddr::from([0, 0, 0, 0]), IpAddr::from([10, 99, 0, 2]))
}

fn pki(settings: &ControlPlaneSettings) -> Pki {
    Pki::open(&settings.pki(), &settings.serving_names()).unwrap()
}

fn value<'a>(flags: &'a [String], name: &str) -> Option<&'a str> {
    let values: Vec<&str> = flags.iter().filter_map(|flag| flag.strip_prefix(name)?.strip_prefix('=')).collect();
    assert!(values.len() <= 1, "{name} is given more than once: {values:?}");
    values.first().copied()
}

#[test]
fn parts_are_named_like_their_programs() {
    for part in Part::ALL {
        assert_eq!(Part::named(part.name()), Some(part));
    }
    assert_eq!(Part::named("kubelet"), None);
}

#[test]
fn the_certificate_is_for_every_name_that_clients_use() {
    let mut settings = of_a_cluster(Path::new("/state"));
    settings.names = vec!["10.99.0.2".to_owned(), "rig.example".to_owned()];
    let names = settings.serving_names();
    for name in
        ["127.0.0.1", "10.96.0.1", "10.99.0.2", "rig.example", "kubernetes.default.svc.cluster.local", "localhost"]
    {
        assert_eq!(names.iter().filter(|known| *known == name).count(), 1, "{name} in {names:?}");
    }
    assert!(!names.contains(&"0.0.0.0".to_owned()));
}

#[test]
fn what_listens_everywhere_is_reached_on_loopback() {
    let mut settings = of_a_cluster(Path::new("/state"));
    assert_eq!(settings.address(Part::Apiserver), SocketAddr::new(LOOPBACK, 6443));
    settings.bind = settings.advertise;
    assert_eq!(settings.address(Part::Apiserver), SocketAddr::new(settings.advertise, 6443));
    assert_eq!(settings.address(Part::Etcd), SocketAddr::new(LOOPBACK, 2379));
}

#[test]
fn flags_follow_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = of_a_cluster(folder.path());
    let made = pki(&cluster);
    let apiserver = flags::of(Part::Apiserver, &cluster, &made);
    assert_eq!(value(&apiserver, "--secure-port"), Some("6443"));
    assert_eq!(value(&apiserver, "--advertise-address"), Some("10.99.0.2"));
    assert_eq!(value(&apiserver, "--service-cluster-ip-range"), Some("10.96.0.0/16"));
    assert_eq!(value(&apiserver, "--kubelet-preferred-address-types"), Some("InternalIP"));
    assert_eq!(value(&apiserver, "--endpoint-reconciler-type"), None);
    assert!(!flags::of(Part::Etcd, &cluster, &made).contains(&"--unsafe-no-fsync".to_owned()));
    assert_eq!(value(&flags::of(Part::ControllerManager, &cluster, &made), "--cluster-cidr"), Some("10.244.0.0/16"));

    let mut local = ControlPlaneSettings::local(folder.path());
    local.apiserver_args = vec!["--v=2".to_owned()];
    local.scheduler_args = vec!["--v=3".to_owned()];
    let apiserver = flags::of(Part::Apiserver, &local, &made);
    assert_eq!(value(&apiserver, "--endpoint-reconciler-type"), Some("none"));
    assert_eq!(value(&apiserver, "--v"), Some("2"));
    assert_eq!(value(&flags::of(Part::Scheduler, &local, &made), "--v"), Some("3"));
    assert!(flags::of(Part::Etcd, &local, &made).contains(&"--unsafe-no-fsync".to_owned()));
    local.etcd_sync = EtcdSync::Fsync;
    assert!(!flags::of(Part::Etcd, &local, &made).contains(&"--unsafe-no-fsync".to_owned()));
}

#[test]
fn every_file_that_a_flag_names_exists() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ControlPlaneSettings::local(folder.path());
    let made = pki(&settings);
    for identity in [Identity::Admin, Identity::ControllerManager, Identity::Scheduler] {
        kubeconfig::write(&settings.kubeconfig(&identity), "https://127.0.0.1:1", &made, &identity).unwrap();
    }
    let mut files = 0;
    for part in Part::ALL {
        for flag in flags::of(part, &settings, &made) {
            let Some((name, value)) = flag.split_once('=') else { continue };
            if value.starts_with('/') && name != "--data-dir" {
                assert!(Path::new(value).is_file(), "{flag}");
                files += 1;
            }
        }
    }
    assert!(files > 20, "{files}");
}

#[test]
fn what_earlier_clients_and_tokens_rely_on_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = ControlPlaneSettings::local(folder.path());
    let read = |settings: &ControlPlaneSettings, name: &str| {
        std::fs::read_to_string(settings.pki().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    pki(&settings);
    let kept = ["ca.crt", "ca.key", "front-proxy-ca.crt", "service-accounts.key", "service-accounts.pub"];
    let before = kept.map(|name| read(&settings, name));
    let serving = read(&settings, "serving.crt");
    settings.names.push("another.example".to_owned());
    pki(&settings);
    assert_eq!(kept.map(|name| read(&settings, name)), before);
    assert_ne!(read(&settings, "serving.crt"), serving);
    for name in ["ca.key", "service-accounts.key", "serving.key"] {
        let mode = std::fs::metadata(settings.pki().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may read {name}: {mode:o}");
    }
}

#[test]
fn a_kubeconfig_has_everything_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ControlPlaneSettings::local(folder.path());
    let made = pki(&settings);
    let identity = Identity::Kubelet { node: "node-1".to_owned() };
    let path = settings.kubeconfig(&identity);
    kubeconfig::write(&path, "https://127.0.0.1:6443", &made, &identity).unwrap();
    assert_eq!(path.file_name().unwrap(), "kubelet-node-1.yaml");
    let read = Kubeconfig::read_from(&path).unwrap();
    assert_eq!(read.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://127.0.0.1:6443"));
    assert!(read.clusters[0].cluster.as_ref().unwrap().certificate_authority_data.is_some());
    let user = read.auth_infos[0].auth_info.as_ref().unwrap();
    assert!(user.client_certificate_data.is_some() && user.client_key_data.is_some());
    assert_eq!(read.current_context.as_deref(), Some(&*read.contexts[0].name));
}

#[test]
fn reserved_ports_are_taken_by_nobody_else() {
    let mut ports = Ports { apiserver: 6443, ..Ports::FREE };
    let held = ReservedPorts::fill(LOOPBACK, &mut ports).unwrap();
    assert_eq!(ports.apiserver, 6443, "a port that was chosen stays");
    let found = [ports.etcd_client, ports.etcd_peer, ports.controller_manager, ports.scheduler];
    for port in found {
        assert_ne!(port, 0);
        assert_eq!(found.iter().filter(|other| **other == port).count(), 1, "{found:?}");
        let error = TcpListener::bind((LOOPBACK, port)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
    drop(held);
    TcpListener::bind((LOOPBACK, ports.etcd_client)).unwrap();
}
