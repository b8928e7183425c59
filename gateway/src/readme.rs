//! Checks that the README says what the code does.

use std::collections::BTreeSet;

use gateway_policy::{Device, Reason as Served};
use http::StatusCode;
use prometheus::Registry;

use crate::config::Config;
use crate::error::Reason;
use crate::error::tests::one_of_each;
use crate::metrics::Metrics;
use crate::settings::Limits;

const README: &str = include_str!("../README.md");

/// The other cells of the rows whose first cell is `name`, in backticks.
fn rows<'a>(name: &'a str) -> impl Iterator<Item = Vec<&'static str>> + 'a {
    let first = format!("| `{name}` |");
    let rest = move |line: &'static str| line.strip_prefix(first.as_str());
    README.lines().filter_map(rest).map(|rest| rest.trim_end_matches('|').split(" | ").map(str::trim).collect())
}

fn row(name: &str) -> Vec<&'static str> {
    rows(name).next().unwrap_or_else(|| panic!("the README has no row for {name}"))
}

/// `DEADLINE_EXCEEDED` of `DeadlineExceeded`.
fn shouted(code: tonic::Code) -> String {
    let mut text = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

#[test]
fn every_reason_is_explained() {
    let failures = Reason::ALL.iter().map(|reason| reason.as_str());
    let successes = Served::ALL.iter().map(|reason| reason.as_str());
    failures.chain(successes).for_each(|reason| drop(row(reason)));
}

#[test]
fn every_failure_stands_with_its_statuses() {
    for error in one_of_each() {
        let row = row(error.reason().as_str());
        let has = |cell: &str, value: &str| cell.split(", ").any(|one| one == value);
        assert!(has(row[0], error.http_status().as_str()), "{error:?}: {row:?}");
        assert!(has(row[1], &shouted(error.grpc_code())), "{error:?}: {row:?}");
        assert!(error.retry_after().is_none() || matches!(row[0], "503" | "429"), "{error:?}: {row:?}");
    }
}

#[test]
fn every_metric_stands_with_its_labels() {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).unwrap();
    let model = metrics.of_model("vision", "digits");
    model.count(Some(Device::Cpu), StatusCode::OK, "static");
    model.count_retry("unsent");
    let families = registry.gather();
    for family in &families {
        let labels: BTreeSet<_> =
            family.get_metric()[0].get_label().iter().map(prometheus::proto::LabelPair::name).collect();
        let documented: BTreeSet<_> = row(family.name())[0].split(", ").filter(|label| !label.is_empty()).collect();
        assert_eq!(documented, labels, "{}", family.name());
    }
    let documented = README.lines().filter(|line| line.starts_with("| `kferving_gateway_"));
    assert_eq!(documented.count(), families.len(), "a metric that is gone");
}

#[test]
fn the_file_can_be_pasted_and_states_the_defaults() {
    let (_, rest) = README.split_once("```yaml\n").unwrap();
    let (file, _) = rest.split_once("```").unwrap();
    let config = Config::parse(file).unwrap();
    assert_eq!(config.limits, Limits::default());
    let replicas = &config.models[0].replicas;
    assert!(replicas.iter().all(|replica| (replica.cost - replica.device.default_cost()).abs() < f64::EPSILON));

    // The parser itself names the keys of each level.
    for (unknown, table) in [
        ("models: []\nx: 1", ""),
        ("models: [{name: m, replicas: [], x: 1}]", "models[]."),
        ("models: [{name: m, replicas: [{url: u, x: 1}]}]", "replicas[]."),
        ("models: []\nlimits: {x: 1}", "limits"),
    ] {
        let refusal = Config::parse(unknown).unwrap_err().to_string();
        let keys = refusal.split_once("expected one of ").and_then(|(_, keys)| keys.split_once(", in `"));
        let (keys, _) = keys.unwrap_or_else(|| panic!("{refusal}"));
        for key in keys.split(", ") {
            assert!(file.contains(&format!("{key}:")), "the file has no {key}");
            match (table, key) {
                ("", "models" | "limits") => {}
                ("limits", key) => drop(row(key)),
                (table, key) => drop(row(&format!("{table}{key}"))),
            }
        }
    }
}
