//! Access to the API server from inside and from the caller's shell.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::settings::Place;

/// The administrator's kubeconfig for processes inside: the API server at its own address.
pub(super) fn inside(place: &Place) -> PathBuf {
    place.data("kubeconfig")
}

/// Writes the kubeconfig for the caller's shell: that of `inside`, through the relay on `port`.
///
/// # Errors
/// When the one cannot be read or the other not be written.
pub(super) fn write_outside(place: &Place, port: u16) -> anyhow::Result<()> {
    let source = inside(place);
    let read = Kubeconfig::read_from(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let text = serde_json::to_string_pretty(&through_relay(read, place, port))?;
    // It makes its reader the cluster's administrator.
    let target = place.kubeconfig();
    let file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&target);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", target.display()))
}

/// A client of the API server of a kubeconfig.
///
/// # Errors
/// When it cannot be read, or names what is not there.
pub(super) async fn client(kubeconfig: &Path) -> anyhow::Result<kube::Client> {
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    client_of(read).await.with_context(|| format!("cannot use {}", kubeconfig.display()))
}

/// A client of the API server that `KUBECONFIG` names: a file, or several that are merged.
///
/// # Errors
/// When one cannot be read, or names what is not there.
pub(super) async fn client_of_env() -> anyhow::Result<kube::Client> {
    let read = Kubeconfig::from_env().context("it cannot be read")?;
    client_of(read.context("it is empty")?).await.context("it cannot be used")
}

async fn client_of(kubeconfig: Kubeconfig) -> anyhow::Result<kube::Client> {
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

/// The same clusters, at a port of the caller's loopback. Names are the cluster's, so that merged kubeconfigs tell two apart.
fn through_relay(mut kubeconfig: Kubeconfig, place: &Place, port: u16) -> Kubeconfig {
    let name = place.node_name();
    for named in &mut kubeconfig.clusters {
        named.name.clone_from(&name);
        if let Some(cluster) = &mut named.cluster {
            cluster.server = Some(format!("https://127.0.0.1:{port}"));
        }
    }
    for named in &mut kubeconfig.auth_infos {
        named.name.clone_from(&name);
    }
    for named in &mut kubeconfig.contexts {
        named.name.clone_from(&name);
        if let Some(context) = &mut named.context {
            context.cluster.clone_from(&name);
            context.user = Some(name.clone());
        }
    }
    kubeconfig.current_context = Some(name);
    kubeconfig
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: &str = "
apiVersion: v1
kind: Config
current-context: rig
clusters: [{name: rig, cluster: {server: 'https://127.0.0.1:6443', certificate-authority-data: Y2E=}}]
users: [{name: admin, user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}}]
contexts: [{name: rig, context: {cluster: rig, user: admin}}]
";

    #[test]
    fn the_callers_kubeconfig_goes_through_the_relay() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new("a", Some(folder.path())).unwrap();
        std::fs::create_dir_all(place.state().join("data")).unwrap();
        std::fs::write(inside(&place), INSIDE).unwrap();
        write_outside(&place, 4321).unwrap();

        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(place.kubeconfig().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let written = Kubeconfig::read_from(place.kubeconfig()).unwrap();
        assert_eq!(written.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://127.0.0.1:4321"));
        assert_eq!(written.current_context.as_deref(), Some("kferving-a"));
        assert_eq!(written.contexts[0].context.as_ref().unwrap().user.as_deref(), Some("kferving-a"));
        let text = std::fs::read_to_string(place.kubeconfig()).unwrap();
        assert!(text.contains("a2V5"), "the key is written out, not redacted");
    }
}
