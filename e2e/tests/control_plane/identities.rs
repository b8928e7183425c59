//! Who the apiserver takes the control plane's certificates for.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use e2e::control_plane::Identity;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::tier::Place;

pub(crate) async fn are_who_their_certificates_say(place: Arc<Place>) -> Result<()> {
    let kubelet = Identity::Kubelet { node: "simulated-0".to_owned() };
    for identity in [Identity::Admin, Identity::ControllerManager, Identity::Scheduler, Identity::KubeProxy, kubelet] {
        let kubeconfig = Kubeconfig::read_from(place.shared.control_plane.kubeconfig(&identity)?)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let (user, groups) = who_am_i(Client::try_from(config)?, None).await?;
        ensure!(user == identity.user(), "{identity:?} is {user}");
        let group = identity.group().unwrap_or("system:authenticated");
        ensure!(groups.iter().any(|of| of == group), "{identity:?} is in {groups:?}, not in {group}");
    }
    Ok(())
}

/// An aggregated API's proxy may name any user, so no other client may: not even the most powerful one.
pub(crate) async fn only_the_front_proxy_speaks_for_others(place: Arc<Place>) -> Result<()> {
    let pki = place.shared.control_plane.settings().state.join("pki");
    let proxy = client_of(&place, &pki, "front-proxy-client").await?;
    let (user, _) = who_am_i(proxy, Some("somebody")).await?;
    ensure!(user == "somebody", "the front proxy's word for somebody became {user}");
    let (user, _) = who_am_i(place.client(), Some("somebody")).await?;
    ensure!(user == Identity::Admin.user(), "a client became {user}");
    Ok(())
}

/// User and groups that the apiserver sees behind a client, which says that it speaks for another.
async fn who_am_i(client: Client, speaks_for: Option<&str>) -> Result<(String, Vec<String>)> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let mut request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header(http::header::CONTENT_TYPE, "application/json");
    if let Some(other) = speaks_for {
        request = request.header("X-Remote-User", other).header("X-Remote-Group", "system:authenticated");
    }
    let review: SelfSubjectReview = client.request(request.body(serde_json::to_vec(&review)?)?).await?;
    let user = review.status.and_then(|status| status.user_info).context("no answer")?;
    Ok((user.username.unwrap_or_default(), user.groups.unwrap_or_default()))
}

/// A client that shows a certificate of the folder.
async fn client_of(place: &Place, pki: &Path, stem: &str) -> Result<Client> {
    let kubeconfig = json!({
        "clusters": [{"name": "c", "cluster": {
            "server": place.shared.control_plane.server(),
            "certificate-authority": place.shared.control_plane.ca(),
        }}],
        "users": [{"name": "u", "user": {
            "client-certificate": pki.join(format!("{stem}.crt")),
            "client-key": pki.join(format!("{stem}.key")),
        }}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig)?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?)
}
