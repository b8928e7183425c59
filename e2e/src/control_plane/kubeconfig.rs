//! Kubeconfigs: one file with everything in it, so that it can be copied to where it is used.

use std::net::SocketAddr;
use std::path::Path;

use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::json;

use super::pki::write as write_whole;
use super::{ControlPlaneError, Identity, Pki};

/// The name of the cluster and of the context in every kubeconfig.
const CLUSTER: &str = "kferving";

/// Writes the kubeconfig of an identity for the apiserver at `server`.
pub(super) fn write(path: &Path, server: &str, pki: &Pki, identity: &Identity) -> Result<(), ControlPlaneError> {
    let folder = path.parent().expect("a kubeconfig is in a folder");
    let failed = |what, path: &Path, source| ControlPlaneError::State { what, path: path.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(|source| failed("make folder", folder, source))?;
    let authority = pki.authority();
    let ca = std::fs::read(&authority).map_err(|source| failed("read", &authority, source))?;
    let user = identity.user();
    let shown = pki.issue(&user, identity.group())?;
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CLUSTER, "cluster": {
            "server": server,
            "certificate-authority-data": base64(&ca),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": base64(shown.certificate.as_bytes()),
            "client-key-data": base64(shown.key.as_bytes()),
        }}],
        "contexts": [{"name": CLUSTER, "context": {"cluster": CLUSTER, "user": user}}],
        "current-context": CLUSTER,
    });
    let text = serde_saphyr::to_string(&document)
        .map_err(|error| ControlPlaneError::Kubeconfig { path: path.to_owned(), source: error.into() })?;
    write_whole(path, &text)
}

/// A client with a kubeconfig's identity, of its apiserver or of another server that knows the same authority.
pub(super) async fn client(path: &Path, other: Option<SocketAddr>) -> Result<kube::Client, ControlPlaneError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ControlPlaneError::Kubeconfig {
        path: path.to_owned(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|error| failed(error.into()))?;
    let options = KubeConfigOptions::default();
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| failed(error.into()))?;
    if let Some(address) = other {
        let url = format!("https://{address}");
        config.cluster_url = url.parse().expect("a socket address is the authority of a URL");
    }
    kube::Client::try_from(config).map_err(|error| failed(error.into()))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
