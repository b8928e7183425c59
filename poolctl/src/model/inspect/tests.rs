use std::path::Path;

use super::*;

fn fake_wrapper() -> Inspector {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/inspect/fake-wrapper.sh");
    Inspector::new(script, BTreeMap::new())
}

async fn inspect(inspector: &Inspector, paths: &[&str]) -> Vec<(String, String)> {
    let found = inspector.inspect(ModelFormat::Onnx, paths.iter().map(PathBuf::from).collect()).await;
    let said = |answer: Result<Inspection, String>| answer.map_or_else(|error| error, |found| found.digest);
    found.into_iter().map(|(path, answer)| (path.display().to_string(), said(answer))).collect()
}

fn pair(path: &str, said: &str) -> (String, String) {
    (path.to_owned(), said.to_owned())
}

#[tokio::test]
async fn every_model_gets_its_answer() {
    let found = inspect(&fake_wrapper(), &["a", "bad", "c"]).await;
    assert_eq!(found, [pair("a", "sha256:00"), pair("bad", "no such operator"), pair("c", "sha256:00")]);
    assert_eq!(inspect(&fake_wrapper(), &[]).await, []);
}

#[tokio::test]
async fn a_model_that_crashes_the_runtime_is_the_only_one_that_fails() {
    let found = inspect(&fake_wrapper(), &["a", "crash", "c", "crash-too", "e"]).await;
    let crashed = "the model server ended while it loaded the model (signal: 11 (SIGSEGV) (core dumped)): boom";
    let crashed = |said: &str| said == crashed || said == crashed.replace(" (core dumped)", "");
    assert_eq!(
        [&found[0], &found[1], &found[4]],
        [&pair("a", "sha256:00"), &pair("c", "sha256:00"), &pair("e", "sha256:00")]
    );
    assert!(crashed(&found[2].1) && crashed(&found[3].1), "{found:?}");
}

#[tokio::test]
async fn a_model_that_never_loads_is_given_up() {
    let inspector = Inspector { timeout: Duration::from_millis(500), ..fake_wrapper() };
    let found = inspect(&inspector, &["a", "hang", "z"]).await;
    assert_eq!(found, [pair("a", "sha256:00"), pair("hang", "it did not load within 0.5 s"), pair("z", "sha256:00")]);
}

#[tokio::test]
async fn what_a_script_leaves_running_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("child");
    let environment = BTreeMap::from([("CHILD".to_owned(), child.display().to_string())]);
    let patient = Inspector { environment, ..fake_wrapper() };
    let impatient = Inspector { timeout: Duration::from_millis(500), ..patient.clone() };
    let cases = [(&patient, "leaves", "sha256:00"), (&impatient, "leaves-and-hangs", "it did not load within 0.5 s")];
    for (inspector, path, said) in cases {
        let found = tokio::time::timeout(Duration::from_secs(60), inspect(inspector, &[path])).await;
        assert_eq!(found.expect("it does not wait for the child"), [pair(path, said)]);
        let child = std::fs::read_to_string(&child).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        // it is a zombie until whoever inherited it looks
        let is_running = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        let ended = async {
            while is_running() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_none_and_a_missing_program_are_said() {
    let found = inspect(&fake_wrapper(), &["garbage"]).await;
    assert!(found[0].1.starts_with("the model server's answer to an inspection cannot be read"), "{found:?}");
    let missing = Inspector::new(PathBuf::from("/nonexistent/model-wrapper"), BTreeMap::new());
    let found = inspect(&missing, &["a", "b"]).await;
    assert!(found[1].1.starts_with("/nonexistent/model-wrapper could not be started"), "{found:?}");
}
