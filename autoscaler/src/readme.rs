//! Checks that the README says what the code does.

use std::collections::BTreeSet;
use std::time::Duration;

use autoscaler_policy::claim::{LoadOutcome, Origin, Timings, Write, WriteOutcome};
use autoscaler_policy::{ANNOTATION_PREFIX, Scaling, Why, claim};
use gateway_policy::format_duration;
use prometheus::Registry;

use crate::metrics::Metrics;
use crate::settings::{EffectLimits, Settings};

const README: &str = include_str!("../README.md");

/// The other cells of the row whose first cell is `name`, in backticks.
fn row(name: &str) -> Vec<&'static str> {
    let first = format!("| `{name}` |");
    let rest = README.lines().find_map(|line| line.strip_prefix(first.as_str()));
    let rest = rest.unwrap_or_else(|| panic!("the README has no row for {name}"));
    rest.trim_end_matches('|').split(" | ").map(str::trim).collect()
}

#[test]
fn every_reason_is_explained() {
    Why::ALL.iter().for_each(|why| drop(row(why.as_str())));
}

#[test]
fn every_metric_stands_with_its_labels() {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry, EffectLimits::default()).unwrap();
    metrics.written(Write::Claim, &WriteOutcome::Lost);
    metrics.specialized(&LoadOutcome::Conflict);
    for origin in [Origin::Pool, Origin::Cold] {
        let zero = Duration::ZERO;
        let timings = Timings { backoff: zero, claim: zero, specialize: zero, load: zero, origin };
        metrics.activated(&timings, Some(("vision", "default")));
    }
    for gauge in [&metrics.desired, &metrics.ready] {
        gauge.with_label_values(&["vision", "digits", "cpu"]).set(1);
    }
    metrics.messages.with_label_values(&["snapshot"]).inc();
    metrics.effects.with_label_values(&["store"]).set(1);
    let families = registry.gather();
    for family in &families {
        let labels: BTreeSet<_> =
            family.get_metric()[0].get_label().iter().map(prometheus::proto::LabelPair::name).collect();
        let documented: BTreeSet<_> = row(family.name())[0].split(", ").filter(|label| !label.is_empty()).collect();
        assert_eq!(documented, labels, "{}", family.name());
    }
    let documented = README.lines().filter(|line| line.starts_with("| `kferving_autoscaler_"));
    assert_eq!(documented.count(), families.len(), "a metric that is gone");
}

#[test]
fn every_setting_stands_with_its_default() {
    let Settings { identity, claims, tick, store_timeout, drain_grace, limits } = Settings::default();
    let EffectLimits { store, specialize, query, drain } = limits;
    let claim::Settings {
        order,
        claim_deadline,
        removal_ack,
        retry,
        create_unknown,
        max_cold_starts,
        max_unproven,
        settled_after,
        crashes_tolerated,
        backoff_first,
        backoff_longest,
        start_pause_longest,
        max_unanswered,
    } = claims;
    for (name, default) in [
        ("identity", identity),
        ("tick", format_duration(tick)),
        ("store_timeout", format_duration(store_timeout)),
        ("drain_grace", format_duration(drain_grace)),
        ("limits.store", store.to_string()),
        ("limits.specialize", specialize.to_string()),
        ("limits.query", query.to_string()),
        ("limits.drain", drain.to_string()),
        ("claims.order", format!("{order:?}")),
        ("claims.claim_deadline", format_duration(claim_deadline)),
        ("claims.removal_ack", format_duration(removal_ack)),
        ("claims.retry", format_duration(retry)),
        ("claims.create_unknown", format_duration(create_unknown)),
        ("claims.max_cold_starts", max_cold_starts.to_string()),
        ("claims.max_unproven", max_unproven.to_string()),
        ("claims.settled_after", format_duration(settled_after)),
        ("claims.crashes_tolerated", crashes_tolerated.to_string()),
        ("claims.backoff_first", format_duration(backoff_first)),
        ("claims.backoff_longest", format_duration(backoff_longest)),
        ("claims.start_pause_longest", format_duration(start_pause_longest)),
        ("claims.max_unanswered", max_unanswered.to_string()),
    ] {
        assert_eq!(row(name)[0], default, "{name}");
    }
}

#[test]
fn every_annotation_stands_with_its_default() {
    let names = [
        "target-utilization-percentage",
        "window",
        "panic-window-percentage",
        "panic-threshold-percentage",
        "min-scale",
        "max-scale",
        "activation-scale",
        "scale-down-delay",
    ];
    for name in names {
        let annotation = format!("{ANNOTATION_PREFIX}{name}");
        let default = row(name)[0];
        let same = Scaling::default().with_annotations([(annotation.as_str(), default)]);
        assert_eq!(same, Ok(Scaling::default()), "{name}: {default}");
        let refused = Scaling::default().with_annotations([(annotation.as_str(), "nonsense")]);
        assert!(refused.is_err(), "{name} is not looked at");
    }
    drop(row("target"));
}
