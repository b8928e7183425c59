use std::fs;

use super::*;

#[test]
fn the_library_is_looked_for_beside_the_program_and_in_the_source_tree() {
    let tree = tempfile::tempdir().unwrap();
    let executables = tree.path().join("target/release");
    let library = tree.path().join(".cache/onnxruntime/libonnxruntime.so");
    fs::create_dir_all(&executables).unwrap();
    fs::create_dir_all(library.parent().unwrap()).unwrap();
    fs::write(&library, "").unwrap();
    let found =
        |places: Vec<PathBuf>| places.into_iter().find(|place| place.starts_with(tree.path()) && place.is_file());
    let place = found(library_places(&executables)).expect("the cache of the source tree");
    assert_eq!(place.canonicalize().unwrap(), library.canonicalize().unwrap());
    fs::write(executables.join("libonnxruntime.so"), "").unwrap();
    assert_eq!(found(library_places(&executables)), Some(executables.join("libonnxruntime.so")));
}
