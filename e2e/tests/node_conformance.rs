//! The runner of Knative's suites, on a real cluster: cases that pass, one that cannot, and a class of ingress that nobody serves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;

use clap::Parser;
use e2e::cluster::{Cluster, TestCluster};
use e2e::conformance::{Arguments, Outcome, Report, Verdict, report};
use e2e::process::Progress;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use poolctl_runtime::Shutdown;

/// How long the suites themselves would wait, before the first of dozens of cases fails.
const ONE_WAIT_OF_THE_SUITE_S: f64 = 600.0;

/// As on the command line.
#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

/// Two suites at a time share namespaces: the cases are steps of one test.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a cluster: make e2e"]
async fn suites_are_run_and_can_fail() {
    let cluster = TestCluster::from_env().await.unwrap();
    let Some(rig) = cluster.rig_or_skip("the suites run in the cluster's network") else { return };

    let quick = "^(TestUpdateConfigurationMetadata|TestServiceAccountValidation)$";
    let passed = run(rig, &["serving-api", "--run", quick, "--waiting", "skip"]).await;
    assert_eq!(passed.with(Verdict::Pass).len(), 2, "{}", passed.table());
    assert_eq!(passed.processes, 1, "{}", passed.table());
    assert_nothing_left(&cluster).await;

    // A Service waits for its Route, and that for an ingress: ten minutes, if the runner let it.
    let hangs = ["serving-api", "--run", "^TestRouteCreation$", "--waiting", "ignore", "--case-timeout", "20"];
    let failed = run(rig, &hangs).await;
    let result = &failed.tests["TestRouteCreation"];
    assert_eq!(result.outcome, Outcome::Fail);
    assert!(result.note.as_deref().is_some_and(|note| note.starts_with("timed out after 2")), "{result:?}");
    assert!(failed.seconds < ONE_WAIT_OF_THE_SUITE_S, "{}", failed.seconds);
    assert_nothing_left(&cluster).await;

    let foreign = run(rig, &["ingress", "--ingress-class", "nobody.example.com"]).await;
    let failures = foreign.with(Verdict::Fail);
    assert_eq!(failures, ["TestIngressConformance"], "{}", foreign.table());
    let note = foreign.tests["TestIngressConformance"].note.clone().unwrap();
    assert!(note.contains("no controller took up an Ingress of the class nobody.example.com"), "{note}");
    assert!(foreign.seconds < ONE_WAIT_OF_THE_SUITE_S, "{}", foreign.seconds);
    assert_nothing_left(&cluster).await;
}

async fn run(rig: &Cluster, arguments: &[&str]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let results = ["--results".as_ref(), folder.path()];
    let words = arguments.iter().map(Path::new).chain(results);
    let arguments =
        CommandLine::try_parse_from(std::iter::once(Path::new("conformance")).chain(words)).unwrap().arguments;
    let report = report(rig.place(), &arguments, &Progress::stderr(), &Shutdown::new()).await.unwrap();
    assert_eq!(Report::read(&folder.path().join("results.json")).unwrap(), report);
    report
}

async fn assert_nothing_left(cluster: &TestCluster) {
    let namespaces: Api<Namespace> = Api::all(cluster.client().clone());
    assert!(namespaces.get_opt("serving-tests").await.unwrap().is_none(), "the suite's namespace is removed");
}
