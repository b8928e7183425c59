//! `make release` builds with `release.profdata`, so the pinned compiler must be able to read it.

use std::env;
use std::fs;
use std::process::Command;

#[test]
fn the_compiler_takes_the_profile() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("one.rs");
    fs::write(&source, "pub fn one() -> u8 { 1 }").unwrap();
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--crate-type=lib", "--emit=obj", "-Copt-level=3"])
        .arg(concat!("-Cprofile-use=", env!("CARGO_MANIFEST_DIR"), "/release.profdata"))
        .arg("--out-dir")
        .arg(folder.path())
        .arg(&source)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "`make profile` writes one that it takes: {said}");
}
