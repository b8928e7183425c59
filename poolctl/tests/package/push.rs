//! Images that are pushed to a registry.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::registry::{Registry, proxy_to};
use crate::support::{digits, document, package, report, stderr};

/// `poolctl` and password `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "poolctl:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

#[test]
fn what_is_pushed_can_be_pulled_and_is_pushed_once() {
    let registry = Registry::start(&json!({}));
    let layout = tempfile::tempdir().unwrap();
    let target = format!("{}/team/digits:v1", registry.address);
    let first = report(package().arg(digits()).args(["--push", &target]).arg("-o").arg(layout.path()));
    assert_eq!(first["reference"], target.as_str());
    let (digest, exact) = (first["digest"].as_str().unwrap(), format!("{}/team/digits@", registry.address));
    assert_eq!(first["pushed"], json!({"reference": format!("{exact}{digest}"), "uploaded": 4, "present": 0}));

    let (media_type, manifest) = registry.get("/v2/team/digits/manifests/v1");
    assert_eq!(media_type, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(sha256(&manifest), digest);
    assert_eq!(registry.get(&format!("/v2/team/digits/manifests/{digest}")).1, manifest);
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest, document(layout.path(), &first["digest"]));
    for blob in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
        let digest = blob["digest"].as_str().unwrap();
        let (_, content) = registry.get(&format!("/v2/team/digits/blobs/{digest}"));
        assert_eq!((sha256(&content).as_str(), content.len() as u64), (digest, blob["size"].as_u64().unwrap()));
    }

    // again, without a file of its own: the same image, and nothing is sent but the manifest
    let again = report(package().arg(digits()).args(["--push", &target]));
    assert_eq!(
        (&again["digest"], &again["pushed"]["uploaded"], &again["pushed"]["present"]),
        (&first["digest"], &json!(0), &json!(4))
    );
    // of another model of the same server, its own layer and configuration
    let other = report(package().arg(digits()).args(["--name", "other", "--push", &target, "--tag", "other:v1"]));
    assert_eq!((&other["pushed"]["uploaded"], &other["pushed"]["present"]), (&json!(1), &json!(3)));
}

#[test]
fn credentials_are_those_of_docker_login() {
    let keys = tempfile::tempdir().unwrap();
    std::fs::write(keys.path().join("htpasswd"), HTPASSWD).unwrap();
    let path = keys.path().join("htpasswd");
    let registry = Registry::start(&json!({"htpasswd": {"realm": "test", "path": path}}));
    let target = format!("{}/team/digits:v1", registry.address);
    let push = |user: Option<&str>| {
        let auths = user.map(|user| {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(user);
            json!({registry.address.to_string(): {"auth": encoded}})
        });
        std::fs::write(keys.path().join("config.json"), json!({"auths": auths.unwrap_or(json!({}))}).to_string())
            .unwrap();
        package().args(["--push", &target]).env("DOCKER_CONFIG", keys.path()).output().unwrap()
    };
    for wrong in [None, Some("poolctl:wrong")] {
        let output = push(wrong);
        assert!(!output.status.success());
        let said = stderr(&output);
        assert!(said.contains("does not let you in") && said.contains("docker login"), "{said}");
    }
    let output = push(Some("poolctl:secret"));
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn other_machines_are_spoken_to_through_tls_and_must_prove_who_they_are() {
    const NAME: &str = "registry.example";
    let registry = Registry::with_tls(NAME);
    let proxy = format!("http://{}", proxy_to(registry.address));
    let push = |authority: Option<std::path::PathBuf>| {
        let mut command = package();
        command.args(["--push", &format!("{NAME}/team/wrapper:v1")]).env("HTTPS_PROXY", &proxy).env_remove("NO_PROXY");
        // where it is not the system's, the authorities that are trusted are in this file
        command.envs(authority.map(|path| ("SSL_CERT_FILE", path)));
        command.output().unwrap()
    };
    let output = push(None);
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(
        said.contains(&format!("{NAME} does not answer as a registry: ")) && said.contains("certificate"),
        "{said}"
    );
    let output = push(Some(registry.authority()));
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("pushed to {NAME}/team/wrapper@sha256:")), "{said}");
}
