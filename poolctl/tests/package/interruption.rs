//! What is left where a run was ended before it was done: nothing, at the latest after the next run.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::compressing;
use crate::tree::PATIENCE;

/// A run that is ended with the test that began it.
struct Run(Child);

impl Run {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// It is there, and does nothing more.
    fn freeze(&self) {
        kill_process(Pid::from_child(&self.0), Signal::STOP).unwrap();
    }

    /// Sends the signal. Returns the exit status, of which a process that was killed has none.
    fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is not complete in a folder and the folders in it.
fn partial(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        // a run that ends takes its folders with it
        let Ok(entries) = fs::read_dir(next) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            if path.extension().is_some_and(|ending| ending == "partial") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Blobs of a layout that none of its images has.
fn unnamed_blobs(layout: &Path) -> Vec<String> {
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let name = |descriptor: &Value| descriptor["digest"].as_str().unwrap().replace("sha256:", "");
    let blobs = layout.join("blobs/sha256");
    let mut named = Vec::new();
    for manifest in read(&layout.join("index.json"))["manifests"].as_array().unwrap() {
        let content = read(&blobs.join(name(manifest)));
        let layers = content["layers"].as_array().unwrap();
        named.extend(layers.iter().chain([manifest, &content["config"]]).map(name));
    }
    let there = fs::read_dir(blobs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    there.filter(|blob| !named.contains(blob)).collect()
}

/// Makes an image whose content does not matter here: of a program that is on every Linux, and without a model.
fn small(level: u32) -> Command {
    let mut command = compressing(level);
    command.args(["--wrapper", "/bin/sleep"]);
    command
}

/// Starts a run that compresses for seconds, and returns once it is in the middle of it.
fn begun(folder: &Path, output: &str) -> Run {
    /// More than the small files at its beginning have.
    const BYTES: u64 = 1 << 20;
    let before = partial(folder);
    let run = Run::start(small(1).arg("-o").arg(folder.join(output)));
    let is_long = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() >= BYTES);
    let deadline = Instant::now() + PATIENCE;
    while !partial(folder).iter().any(|path| !before.contains(path) && is_long(path)) {
        assert!(Instant::now() < deadline, "nothing is written");
        thread::sleep(Duration::from_millis(2));
    }
    run
}

#[test]
fn a_signal_leaves_nothing_half_done() {
    for (output, signal, status) in [
        ("image.tar", Signal::INT, 130),
        ("image.tar", Signal::TERM, 143),
        ("layout/", Signal::INT, 130),
        ("layout/", Signal::TERM, 143),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let run = begun(folder.path(), output);
        assert_eq!(run.end(signal), Some(status));
        assert!(partial(folder.path()).is_empty(), "{output}");
        assert!(!folder.path().join("image.tar").exists());
    }
}

#[test]
fn what_a_killed_run_left_is_gone_after_the_next() {
    for output in ["image.tar", "layout/"] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(begun(folder.path(), output).end(Signal::KILL), None);
        let left = partial(folder.path());
        assert!(!left.is_empty(), "the test ended it too late");

        // another that is under way keeps its own
        let running = begun(folder.path(), output);
        running.freeze();
        let own = partial(folder.path());
        assert!(own.iter().all(|path| !left.contains(path)), "{own:?}");
        let next = small(0).arg("-o").arg(folder.path().join(output)).output().unwrap();
        assert!(next.status.success(), "{next:?}");
        assert_eq!(partial(folder.path()), own, "those of the one that runs");
        if output.ends_with('/') {
            assert_eq!(unnamed_blobs(&folder.path().join(output)), [""; 0]);
        }
    }
}

/// An image that is only pushed lies in a private folder meanwhile.
#[test]
fn the_folder_of_an_image_that_is_only_pushed_goes_too() {
    let folder = tempfile::tempdir().unwrap();
    // a registry that takes connections and says nothing
    let registry = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = registry.local_addr().unwrap();
    let pushing = || -> (Run, TcpStream) {
        let run = Run::start(small(0).args(["--push", &format!("{address}/me/idle:v1")]).env("TMPDIR", folder.path()));
        (run, registry.accept().unwrap().0)
    };
    let (run, _asked) = pushing();
    assert_eq!(partial(folder.path()).len(), 1);
    assert_eq!(run.end(Signal::TERM), Some(143));
    assert!(partial(folder.path()).is_empty());

    let (killed, _asked) = pushing();
    assert_eq!(killed.end(Signal::KILL), None);
    let left = partial(folder.path());
    assert_eq!(left.len(), 1);
    let (running, _asked) = pushing();
    let own = partial(folder.path());
    assert!(own.len() == 1 && own != left, "{own:?}");
    let (other, _asked) = pushing();
    assert_eq!(partial(folder.path()).len(), 2, "that of the one that runs stays");
    running.end(Signal::TERM);
    other.end(Signal::TERM);
    assert!(partial(folder.path()).is_empty());
}
