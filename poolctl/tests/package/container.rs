//! Runs an image's entrypoint in its own file system: for root in a mount namespace of its own, read-only and as the user
//! that the image names; for others, who may not do that, with the image's loader and libraries in place.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use poolctl_runtime::announce;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{config, open};
use crate::tree::PATIENCE;

/// An image that has been unpacked, and what it says about running it.
pub(crate) struct Container {
    root: TempDir,
    config: Value,
}

/// A running one; killed when dropped.
pub(crate) struct Running {
    child: Child,
    address: SocketAddr,
}

/// What the mount namespace is for; arguments: the root, `UID:GID`, the command.
const ENTER: &str = r#"
set -e
root=$1 user=$2; shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
exec env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin $VARIABLES chroot --userspec="$user" "$root" "$@"
"#;

// === impl Container ===

impl Container {
    /// Unpacks the image that was written to a layout with uncompressed layers.
    pub(crate) fn unpack(layout: &Path, report: &Value) -> Self {
        let root = tempfile::tempdir().unwrap();
        for layer in report["layers"].as_array().unwrap() {
            let mut archive = open(layout, layer);
            archive.set_preserve_permissions(true);
            archive.unpack(root.path()).unwrap();
        }
        // its own is for nobody else to enter
        fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Self { root, config: config(layout, report) }
    }

    /// Starts it with these arguments, waits until it is ready.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let anywhere = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
        let mut child = self.command(&[&anywhere, arguments].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).find_map(|line| announce::parse("ready", &line));
        match ready {
            Some(address) => Running { child, address },
            None => panic!("it ended before it was ready: {}", child.wait().unwrap()),
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let strings = |field: &str| -> Vec<String> {
            let list = self.config[field].as_array();
            list.into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect()
        };
        let (entrypoint, variables) = (strings("Entrypoint"), strings("Env"));
        let mut command;
        if can_enter() {
            command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", ENTER, "sh"]).arg(self.root.path());
            command.arg(self.config["User"].as_str().unwrap()).args(entrypoint);
            command.env("VARIABLES", variables.join(" "));
        } else {
            let inside = |path: &str| match path.strip_prefix("/kferving/") {
                Some(rest) => self.root.path().join("kferving").join(rest).display().to_string(),
                None => path.to_owned(),
            };
            let entrypoint: Vec<_> = entrypoint.iter().map(|argument| inside(argument)).collect();
            command = Command::new(&entrypoint[0]);
            command.args(&entrypoint[1..]).env_clear();
            let variables = variables.iter().map(|variable| variable.split_once('=').unwrap());
            command.envs(variables.map(|(name, value)| (name.to_owned(), inside(value))));
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

/// Whether this test may make a mount namespace and become another user.
pub(crate) fn can_enter() -> bool {
    let probe = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    rustix::process::geteuid().is_root() && probe.is_ok_and(|status| status.success())
}

// === impl Running ===

impl Running {
    /// What it answers to a request on a connection of its own.
    pub(crate) fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = body.to_string();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|_| json!(answer))
    }

    /// Of its process: real user and group.
    pub(crate) fn owner(&self) -> (u32, u32) {
        let status = fs::read_to_string(self.process().join("status")).unwrap();
        let id = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        (id("Uid:"), id("Gid:"))
    }

    /// Options of the mount that its root is.
    pub(crate) fn root_options(&self) -> Vec<String> {
        let mounts = fs::read_to_string(self.process().join("mountinfo")).unwrap();
        let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = fields.rfind(|fields| fields[4] == "/").unwrap();
        root[5].split(',').map(str::to_owned).collect()
    }

    fn process(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
