use std::fs;

use super::*;

/// A copy of this test's own program with some bytes of its header changed.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bytes = fs::read(env::current_exe().expect("a program")).expect("its bytes");
    change(&mut bytes);
    let path = folder.path().join("program");
    fs::write(&path, bytes).expect("a file");
    (folder, path)
}

#[test]
fn a_program_is_started_through_its_own_loader() {
    let program = Program::open(&env::current_exe().expect("a program")).expect("it can be packaged");
    assert_eq!(*program.architecture(), Arch::default());
    let loader = program.loader.clone().expect("it is linked dynamically");
    for needed in [loader.as_str(), "libc.so.6", "libgcc_s.so.1"] {
        assert!(program.libraries()[needed].is_file(), "{needed}: {:?}", program.libraries());
    }
    let command = program.command("/kferving");
    assert_eq!(command[..3], [format!("/kferving/lib/{loader}"), "--library-path".into(), "/kferving/lib".into()]);
    assert!(command[3].starts_with("/kferving/bin/poolctl_image-"), "{command:?}");
}

#[test]
fn a_missing_library_is_named_with_who_needs_it() {
    let name = b"libgcc_s.so.1\0";
    let (_folder, path) = changed(|bytes| {
        let at = bytes.windows(name.len()).position(|window| window == name).expect("it is needed");
        bytes[at..at + 6].copy_from_slice(b"libxyz");
    });
    let error = Program::open(&path).expect_err("there is no such library").to_string();
    let start = format!("{} needs libxyz_s.so.1, which was not found; looked in ", path.display());
    assert!(error.starts_with(&start) && error.contains("/usr/lib"), "{error}");
}

#[test]
fn other_machines_are_told_apart() {
    const E_MACHINE: usize = 18;
    let (_folder, arm) = changed(|bytes| bytes[E_MACHINE..E_MACHINE + 2].copy_from_slice(&183u16.to_le_bytes()));
    let error = Program::open(&env::current_exe().expect("a program"))
        .and_then(|program| program.and_library("libarm.so", &arm))
        .expect_err("another machine")
        .to_string();
    assert!(error.contains("is for arm64, but"), "{error}");
    let (_folder, sparc) = changed(|bytes| bytes[E_MACHINE..E_MACHINE + 2].copy_from_slice(&43u16.to_le_bytes()));
    let error = Program::open(&sparc).expect_err("not supported").to_string();
    assert!(error.contains("not supported (SPARCV9)"), "{error}");
}

#[test]
fn what_is_no_program_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("script");
    for content in [&b"#!/bin/sh\n"[..], b"", b"\x7fELF", &[0x7f; 200]] {
        fs::write(&path, content).expect("a file");
        assert!(matches!(Program::open(&path), Err(ProgramError::NotElf(_))), "{content:?}");
    }
    assert!(matches!(Program::open(&folder.path().join("none")), Err(ProgramError::Read { .. })));
    // a header, and nothing behind it
    let (_folder, cut) = changed(|bytes| bytes.truncate(64));
    assert!(matches!(Program::open(&cut), Err(ProgramError::Unreadable { .. })));
}
