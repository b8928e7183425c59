use std::os::unix::fs::symlink;
use std::thread;

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a process that was killed leaves: the name, and no lock.
fn left_over(folder: &Path, random: &str) -> PathBuf {
    let path = folder.join(format!("{PREFIX}{random}{SUFFIX}"));
    fs::write(&path, "half").unwrap();
    path
}

#[test]
fn a_file_has_its_name_once_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let (scratch, path) = (Scratch::new(), folder.path().join("file"));
    fs::write(&path, "before").unwrap();
    let mut file = scratch.file(folder.path()).unwrap();
    file.write_all(b"whole").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before");
    file.persist(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(names(folder.path()), ["file"]);

    drop(scratch.file(folder.path()).unwrap());
    drop(scratch.folder(folder.path()).unwrap());
    assert_eq!(names(folder.path()), ["file"]);
    assert!(scratch.live.lock().paths.is_empty());
}

#[test]
fn what_the_dead_left_is_swept_and_what_the_living_hold_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let living = Scratch::new();
    let (file, private) = (living.file(folder.path()).unwrap(), living.folder(folder.path()).unwrap());
    let held = names(folder.path());
    assert_eq!(held.len(), 2);

    left_over(folder.path(), "abcdefghijkl");
    let dead = folder.path().join(format!("{PREFIX}ABCDEFGHIJKL{SUFFIX}"));
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("image.tar"), "half").unwrap();
    sweep(folder.path());
    assert_eq!(names(folder.path()), held);

    // what looks alike and is not one of them
    let other = left_over(folder.path(), "short");
    symlink(&other, folder.path().join(format!("{PREFIX}linklinklink{SUFFIX}"))).unwrap();
    sweep(folder.path());
    assert_eq!(names(folder.path()).len(), 4);
    assert_eq!(fs::read(&other).unwrap(), b"half");
    drop((file, private));
}

#[test]
fn given_up_means_that_nothing_is_left_and_nothing_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (scratch, path) = (Scratch::new(), folder.path().join("file"));
    let file = scratch.file(folder.path()).unwrap();
    let private = scratch.folder(folder.path()).unwrap();
    fs::write(private.path().join("image.tar"), "whole").unwrap();
    scratch.give_up();
    assert_eq!(names(folder.path()), [""; 0]);
    assert!(file.persist(&path).is_err());
    assert!(scratch.clone().file(folder.path()).is_err());
    assert!(scratch.folder(folder.path()).is_err());
    drop(private);
    assert_eq!(names(folder.path()), [""; 0]);
}

/// Sweeps that come between the making of a file and its lock cost nobody a file.
#[test]
fn many_begin_and_sweep_at_once() {
    let folder = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                let scratch = Scratch::new();
                for round in 0..50 {
                    sweep(folder);
                    let private = scratch.folder(folder).unwrap();
                    fs::write(private.path().join("mine"), "whole").unwrap();
                    let mut file = scratch.file(folder).unwrap();
                    file.write_all(b"whole").unwrap();
                    file.persist(&folder.join(format!("{thread}-{round}"))).unwrap();
                }
            });
        }
    });
    assert_eq!(names(folder.path()).len(), 200);
}
