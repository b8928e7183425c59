//! The committed CRDs are what the types generate.

use std::fs;
use std::path::Path;

#[test]
fn the_committed_crds_are_generated_from_the_types() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/crds");
    let generated = poolctl_api::crd_files().expect("the types have a schema");
    for file in &generated {
        let path = directory.join(file.name);
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(committed, file.yaml, "{} is out of date: run `make crds`", path.display());
    }
    let committed = fs::read_dir(&directory).expect("manifests/crds exists").count();
    assert_eq!(committed, generated.len(), "manifests/crds holds a file that no type generates");
}
