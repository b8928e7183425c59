//! The command lines of the four programs.

use super::pki::FRONT_PROXY;
use super::{ControlPlaneSettings, EtcdSync, Identity, Part, Pki, shown};

/// Who signs the tokens of service accounts.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The flags of a part.
pub(super) fn of(part: Part, settings: &ControlPlaneSettings, pki: &Pki) -> Vec<String> {
    match part {
        Part::Etcd => etcd(settings, pki),
        Part::Apiserver => apiserver(settings, pki),
        Part::ControllerManager => controller_manager(settings, pki),
        Part::Scheduler => scheduler(settings, pki),
    }
}

fn etcd(settings: &ControlPlaneSettings, pki: &Pki) -> Vec<String> {
    let client = format!("https://127.0.0.1:{}", settings.ports.etcd_client);
    let peer = format!("https://127.0.0.1:{}", settings.ports.etcd_peer);
    let [ca, certificate, key] = [pki.authority(), pki.file("serving.crt"), pki.file("serving.key")];
    let [ca, certificate, key] = [shown(&ca), shown(&certificate), shown(&key)];
    let mut flags = vec![
        "--name=default".to_owned(),
        format!("--data-dir={}", shown(&settings.etcd_data())),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        format!("--cert-file={certificate}"),
        format!("--key-file={key}"),
        format!("--trusted-ca-file={ca}"),
        "--client-cert-auth".to_owned(),
        format!("--peer-cert-file={certificate}"),
        format!("--peer-key-file={key}"),
        format!("--peer-trusted-ca-file={ca}"),
        "--peer-client-cert-auth".to_owned(),
        // See `ports`.
        "--socket-reuse-port".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    if settings.etcd_sync == EtcdSync::Unsafe {
        flags.push("--unsafe-no-fsync".to_owned());
    }
    flags
}

fn apiserver(settings: &ControlPlaneSettings, pki: &Pki) -> Vec<String> {
    let file = |name: &str| shown(&pki.file(name)).to_string();
    let mut flags = vec![
        format!("--etcd-servers=https://127.0.0.1:{}", settings.ports.etcd_client),
        format!("--etcd-cafile={}", file("ca.crt")),
        format!("--etcd-certfile={}", file("etcd-client.crt")),
        format!("--etcd-keyfile={}", file("etcd-client.key")),
        format!("--bind-address={}", settings.bind),
        format!("--advertise-address={}", settings.advertise),
        format!("--secure-port={}", settings.ports.apiserver),
        "--permit-port-sharing".to_owned(),
        format!("--tls-cert-file={}", file("serving.crt")),
        format!("--tls-private-key-file={}", file("serving.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--service-cluster-ip-range={}", settings.service_cidr),
        format!("--service-account-issuer={ISSUER}"),
        format!("--service-account-key-file={}", file("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", file("service-accounts.key")),
        // A node's name resolves nowhere: logs, exec and port-forward take its address.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
        format!("--kubelet-client-key={}", file("kubelet-client.key")),
        // For aggregated APIs, which trust the user that the apiserver names.
        format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
        format!("--requestheader-allowed-names={FRONT_PROXY}"),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
    ];
    if settings.advertise.is_loopback() {
        flags.push("--endpoint-reconciler-type=none".to_owned());
    }
    flags.extend(settings.apiserver_args.iter().cloned());
    flags
}

fn controller_manager(settings: &ControlPlaneSettings, pki: &Pki) -> Vec<String> {
    let file = |name: &str| shown(&pki.file(name)).to_string();
    let mut flags =
        client_of_the_apiserver(settings, pki, &Identity::ControllerManager, settings.ports.controller_manager);
    flags.extend([
        format!("--cluster-cidr={}", settings.pod_cidr),
        "--allocate-node-cidrs=true".to_owned(),
        format!("--service-cluster-ip-range={}", settings.service_cidr),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--service-account-private-key-file={}", file("service-accounts.key")),
        "--use-service-account-credentials=true".to_owned(),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
    ]);
    flags.extend(settings.controller_manager_args.iter().cloned());
    flags
}

fn scheduler(settings: &ControlPlaneSettings, pki: &Pki) -> Vec<String> {
    let mut flags = client_of_the_apiserver(settings, pki, &Identity::Scheduler, settings.ports.scheduler);
    flags.extend(settings.scheduler_args.iter().cloned());
    flags
}

/// What the controllers and the scheduler have in common.
fn client_of_the_apiserver(settings: &ControlPlaneSettings, pki: &Pki, identity: &Identity, port: u16) -> Vec<String> {
    let file = |name: &str| shown(&pki.file(name)).to_string();
    let kubeconfig = settings.kubeconfig(identity);
    let kubeconfig = shown(&kubeconfig);
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        "--permit-port-sharing".to_owned(),
        format!("--tls-cert-file={}", file("serving.crt")),
        format!("--tls-private-key-file={}", file("serving.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
        // There is one of each: a lease only delays a restart.
        "--leader-elect=false".to_owned(),
    ]
}
