use std::fs;

use super::*;

fn arguments(models: Option<PathBuf>, wrapper: Option<PathBuf>) -> UpArgs {
    UpArgs {
        models,
        pool: None,
        namespace: None,
        listen: ([127, 0, 0, 1], 0).into(),
        admin: ([127, 0, 0, 1], 0).into(),
        wrapper,
        claim_order: ClaimOrder::Optimistic,
    }
}

fn refused(arguments: UpArgs) -> String {
    format!("{:#}", check(arguments).expect_err("something is missing"))
}

#[test]
fn a_missing_models_directory_is_named() {
    let said = refused(arguments(Some(PathBuf::from("/nonexistent")), None));
    assert_eq!(said, "--models /nonexistent: there is no such directory");
    let said = refused(arguments(Some(std::env::current_exe().unwrap()), None));
    assert!(said.ends_with("expected a directory of Model YAML files, got a file"), "{said}");
    // tests run in the folder of the crate, which has none
    let said = refused(arguments(None, None));
    assert!(said.starts_with("there is no directory `models` here: name the one"), "{said}");
}

#[test]
fn a_bad_file_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("m.yaml"), "apiVersion: kferving.dev/v1alpha1\nkind: Mode\n").unwrap();
    let said = refused(arguments(Some(directory.path().to_owned()), None));
    assert!(said.ends_with("m.yaml:2: kind: expected Model or WarmPool, got \"Mode\""), "{said}");
}

#[test]
fn a_missing_model_server_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let said = refused(arguments(Some(directory.path().to_owned()), Some(PathBuf::from("/nonexistent/mw"))));
    assert_eq!(said, "the model server /nonexistent/mw is not there: --wrapper (or KFERVING_WRAPPER) names it");
}

#[test]
fn a_model_server_that_cannot_be_run_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    fs::write(&text, "not a program").unwrap();
    for path in [directory.path(), &text] {
        let said = refused(arguments(Some(directory.path().to_owned()), Some(path.to_owned())));
        let expected = "is no program that can be run: --wrapper (or KFERVING_WRAPPER) names it";
        assert_eq!(said, format!("the model server {} {expected}", path.display()));
    }
}
