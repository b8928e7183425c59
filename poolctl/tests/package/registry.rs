//! A registry that runs: the reference implementation of the distribution specification.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use e2e::components::{Cache, Component};
use e2e::process::Progress;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tree::PATIENCE;

/// A registry that is killed when it is dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

// === impl Registry ===

impl Registry {
    /// One that lets in those of `authentication`, which is a part of its configuration.
    pub(crate) fn start(authentication: &Value) -> Self {
        Self::configured(tempfile::tempdir().unwrap(), authentication, &json!({}))
    }

    /// One that speaks TLS as `name`, with a certificate of an authority of its own.
    pub(crate) fn with_tls(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("authority.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
        let authority = Issuer::new(authority, key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let (certificate_path, key_path) = (folder.path().join("tls.pem"), folder.path().join("key.pem"));
        fs::write(&certificate_path, certificate.pem()).unwrap();
        fs::write(&key_path, key.serialize_pem()).unwrap();
        let tls = json!({"certificate": certificate_path, "key": key_path});
        Self::configured(folder, &json!({}), &tls)
    }

    fn configured(folder: TempDir, authentication: &Value, tls: &Value) -> Self {
        let mut configuration = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("data")}},
            "http": {"addr": "127.0.0.1:0"},
            "auth": authentication,
        });
        if tls.get("key").is_some() {
            configuration["http"]["tls"] = tls.clone();
        }
        // YAML is a superset of JSON
        let path = folder.path().join("config.yml");
        fs::write(&path, configuration.to_string()).unwrap();
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
        thread::spawn(move || lines.for_each(drop));
        Self { child, address, folder }
    }

    /// The certificate of the authority that its own is signed by.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Media type and content of what is there.
    pub(crate) fn get(&self, path: &str) -> (String, Vec<u8>) {
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

/// An HTTP proxy that leads every `CONNECT` to one address, whatever name it is for: the name of a registry that no
/// resolver knows. It lives as long as the test's process.
pub(crate) fn proxy_to(address: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || tunnel(client, address));
        }
    });
    own
}

fn tunnel(mut client: TcpStream, address: SocketAddr) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    assert!(head.starts_with(b"CONNECT "), "{}", String::from_utf8_lossy(&head));
    let mut server = TcpStream::connect(address)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Write);
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Write)
}
