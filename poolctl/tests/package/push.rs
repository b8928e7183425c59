//! Images that are pushed to a registry: the reference implementation of the distribution specification.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use e2e::components::{Cache, Component};
use e2e::process::Progress;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{PATIENCE, digits, document, package, report, stderr};

/// A registry that is killed when it is dropped.
struct Registry {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

/// `poolctl` and password `secret`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "poolctl:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

// === impl Registry ===

impl Registry {
    fn start(authentication: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let configuration = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("data")}},
            "http": {"addr": "127.0.0.1:0"},
            "auth": authentication,
        });
        // YAML is a superset of JSON
        let path = folder.path().join("config.yml");
        std::fs::write(&path, configuration.to_string()).unwrap();
        let mut command = Command::new(program());
        command.arg("serve").arg(path).env("OTEL_TRACES_EXPORTER", "none");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on ").unwrap_or_default();
            let address = rest.split([' ', '"', ',']).next().and_then(|address| address.parse().ok());
            said.push(line);
            address
        });
        let Some(address) = address else {
            panic!("the registry ended with {}: {said:?}", child.wait().unwrap());
        };
        // it must never wait for a reader
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, folder }
    }

    /// Media type and content of what is there.
    fn get(&self, path: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let accept = "accept: application/vnd.oci.image.manifest.v1+json, */*";
        write!(stream, "GET {path} HTTP/1.0\r\nhost: {}\r\n{accept}\r\n\r\n", self.address).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let (head, content) = (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec());
        assert!(head.split(' ').nth(1) == Some("200"), "{path}: {head}");
        let media_type = head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or_default();
        (media_type.to_owned(), content)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The registry's program, built if it is not in the cache yet.
fn program() -> PathBuf {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ensure = async { Cache::open()?.ensure(&[Component::Registry], &Progress::stderr()).await };
    runtime.block_on(ensure).unwrap().path("registry").unwrap()
}

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
    assert!(registry.folder.path().join("data").is_dir());
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
