use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};

use super::super::fixtures::{Settings, changed, differing, is_orphaned, namespaces_of, parse};
use super::names;

const FILE: &str = "
# The objects of a suite.
apiVersion: v1
kind: Namespace
metadata:
  name: serving-tests-alt
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: conformance-test-configmap
  namespace: serving-tests
data:
  testKey: testValue
---
";

fn settings(of: &[(&str, &[(&str, &str)])]) -> Settings {
    let data = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
    };
    of.iter().map(|(name, pairs)| ((*name).to_owned(), data(pairs))).collect()
}

#[test]
fn namespaces_are_those_that_are_made_and_those_that_are_used() {
    let objects = parse(FILE).unwrap();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[1].data["data"]["testKey"], "testValue");
    assert_eq!(namespaces_of(&objects), names(&["serving-tests", "serving-tests-alt"]));
}

#[test]
fn a_file_of_something_else_is_refused() {
    assert!(parse("metadata:\n  name: x\n").unwrap_err().contains("kind"));
    assert!(parse("apiVersion: [\n").is_err());
}

#[test]
fn only_settings_that_a_suite_changed_are_given_back() {
    let before = settings(&[("config-network", &[("a", "1")]), ("config-gc", &[]), ("config-gone", &[("x", "y")])]);
    let now =
        settings(&[("config-network", &[("a", "1"), ("b", "2")]), ("config-gc", &[]), ("config-new", &[("k", "v")])]);
    let back: Vec<_> = differing(&before, &now).collect();
    assert_eq!(back, [("config-network", &before["config-network"])]);
}

#[test]
fn a_suites_settings_are_added_to_those_that_are_there() {
    let before = settings(&[("config-network", &[("a", "1"), ("ingress-class", "old")])]);
    let change = |map, key, value: &str| (map, key, value.to_owned());
    let changes = [change("config-network", "ingress-class", "new"), change("config-absent", "k", "v")];
    assert_eq!(changed(&before, &changes), settings(&[("config-network", &[("a", "1"), ("ingress-class", "new")])]));
}

#[test]
fn a_lease_of_a_pod_that_is_gone_is_orphaned() {
    let held_by = |holder: Option<&str>| Lease {
        spec: Some(LeaseSpec { holder_identity: holder.map(str::to_owned), ..LeaseSpec::default() }),
        ..Lease::default()
    };
    let pods = names(&["controller-7d4-abc"]);
    assert!(!is_orphaned(&held_by(Some("controller-7d4-abc_4f6c-11")), &pods));
    assert!(is_orphaned(&held_by(Some("controller-7d4-old_4f6c-11")), &pods));
    assert!(!is_orphaned(&held_by(None), &pods));
    assert!(!is_orphaned(&Lease::default(), &pods));
}
