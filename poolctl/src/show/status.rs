//! Tables of models, pools and replicas.

use std::fmt;

use poolctl_api::{ColdStart, ConditionStatus, condition_type};

use crate::admin::messages::{ModelStatus, PoolStatus, ReplicaPhase, ReplicaStatus, Status, VariantStatus};

use super::latency;
use super::table::{Align, Table};

/// How much a table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Width {
    /// What everybody wants to know.
    Narrow,
    /// Revisions, reasons and every replica too.
    Wide,
}

pub(super) fn render(status: &Status, width: Width) -> String {
    let mut text = models_table_of(&status.models, width).to_string();
    if status.models.is_empty() {
        "There are no models.\n".clone_into(&mut text);
    }
    let mut add = |table: &Table| {
        if !table.is_empty() {
            text.push('\n');
            text.push_str(&table.to_string());
        }
    };
    add(&pools_table(&status.pools));
    if width == Width::Wide {
        add(&replicas_table(status));
    }
    let problems = problems(status);
    if !problems.is_empty() {
        text.push('\n');
        text.push_str(&problems.join("\n"));
        text.push('\n');
    }
    text
}

/// A column of the models: its title, where its cells stand, from which width on it is there, and what it says of a variant.
type Column = (&'static str, Align, Width, fn(&ModelStatus, &VariantStatus) -> String);

const MODEL_COLUMNS: [Column; 15] = {
    use Align::{Left, Right};
    use Width::{Narrow, Wide};
    [
        ("NAMESPACE", Left, Narrow, |model, _| model.namespace.clone()),
        ("MODEL", Left, Narrow, |model, _| model.name.clone()),
        ("READY", Left, Narrow, |model, _| ready(model)),
        ("DEVICE", Left, Narrow, |_, variant| variant.device.clone()),
        ("REVISION", Left, Wide, |_, variant| variant.revision.clone()),
        ("DIGEST", Left, Wide, |_, variant| or_dash(variant.digest.as_deref().map(short_digest))),
        ("REPLICAS", Right, Narrow, |_, variant| replicas(variant)),
        ("WHY", Left, Wide, |_, variant| or_dash(variant.why.as_ref())),
        ("IN FLIGHT", Right, Narrow, |_, variant| in_flight(variant).to_string()),
        ("HELD", Right, Narrow, |model, _| model.held.to_string()),
        ("REQUESTS", Right, Wide, |model, _| model.latency.count.to_string()),
        ("P50 MS", Right, Wide, |model, _| or_dash(latency::quantile(&model.latency, 0.5))),
        ("P99 MS", Right, Wide, |model, _| or_dash(latency::quantile(&model.latency, 0.99))),
        ("LAST COLD START", Left, Narrow, |model, _| or_dash(model.last_cold_start.as_ref().map(cold_start))),
        ("URL", Left, Narrow, |model, _| model.url.clone()),
    ]
};

/// One row for each variant of each model, with what everybody wants to know.
#[must_use]
pub fn models_table(models: &[ModelStatus]) -> Table {
    models_table_of(models, Width::Narrow)
}

fn models_table_of(models: &[ModelStatus], width: Width) -> Table {
    let columns: Vec<_> = MODEL_COLUMNS.into_iter().filter(|(_, _, from, _)| *from <= width).collect();
    let titles: Vec<_> = columns.iter().map(|(title, align, ..)| (*title, *align)).collect();
    let mut table = Table::new(&titles);
    for (model, variant) in variants(models) {
        table.row(columns.iter().map(|(.., cell)| cell(model, variant)));
    }
    table
}

/// One row for each pool.
#[must_use]
pub fn pools_table(pools: &[PoolStatus]) -> Table {
    let mut table = Table::new(&[
        ("NAMESPACE", Align::Left),
        ("POOL", Align::Left),
        ("DEVICE", Align::Left),
        ("IDLE", Align::Right),
        ("SIZE", Align::Right),
        ("CLAIMED", Align::Right),
        ("HITS", Align::Right),
        ("MISSES", Align::Right),
    ]);
    for pool in pools {
        table.row([
            pool.namespace.clone(),
            pool.name.clone(),
            pool.device.clone(),
            pool.idle.to_string(),
            pool.size.to_string(),
            pool.claimed.to_string(),
            pool.hits.to_string(),
            pool.misses.to_string(),
        ]);
    }
    table
}

fn replicas_table(status: &Status) -> Table {
    let mut table = Table::new(&[
        ("REPLICA", Align::Left),
        ("OF", Align::Left),
        ("STATE", Align::Left),
        ("PID", Align::Right),
        ("ADDRESS", Align::Left),
        ("IN FLIGHT", Align::Right),
        ("STARTUP MS", Align::Right),
        ("AGE S", Align::Right),
    ]);
    let mut add = |of: &str, replica: &ReplicaStatus| {
        table.row([
            replica.id.clone(),
            of.to_owned(),
            replica.state.to_string(),
            or_dash(replica.pid),
            or_dash(replica.address.as_ref()),
            replica.in_flight.to_string(),
            or_dash(replica.startup_ms.map(|millis| format!("{millis:.1}"))),
            format!("{:.0}", replica.age_seconds),
        ]);
    };
    for (model, variant) in variants(&status.models) {
        for replica in &variant.replicas {
            add(&format!("model {}/{}", model.namespace, model.name), replica);
        }
    }
    for pool in &status.pools {
        for replica in &pool.replicas {
            add(&format!("pool {}/{}", pool.namespace, pool.name), replica);
        }
    }
    table
}

/// A line for each thing that is not as it should be.
fn problems(status: &Status) -> Vec<String> {
    let mut problems = Vec::new();
    for model in &status.models {
        let of_variants = model.conditions.iter().filter(|condition| condition.type_ != condition_type::READY);
        let mut told = Vec::new();
        for condition in of_variants.filter(|condition| condition.status != ConditionStatus::True) {
            let device = condition.type_.trim_end_matches("Ready").to_lowercase();
            told.push(device.clone());
            problems.push(format!(
                "{}/{} on {device}: {}: {}",
                model.namespace, model.name, condition.reason, condition.message
            ));
        }
        for variant in &model.variants {
            // Where a condition came of it, that says the same.
            if let Some(problem) = variant.problem.as_ref().filter(|_| !told.contains(&variant.device)) {
                problems.push(format!("{}/{} on {}: {problem}", model.namespace, model.name, variant.device));
            }
        }
    }
    for pool in &status.pools {
        if let Some(problem) = &pool.problem {
            problems.push(format!("pool {}/{}: {problem}", pool.namespace, pool.name));
        }
    }
    problems
}

fn variants(models: &[ModelStatus]) -> impl Iterator<Item = (&ModelStatus, &VariantStatus)> {
    models.iter().flat_map(|model| model.variants.iter().map(move |variant| (model, variant)))
}

/// `yes`, or the reason why not.
fn ready(model: &ModelStatus) -> String {
    let condition = model.conditions.iter().find(|condition| condition.type_ == condition_type::READY);
    condition.map_or_else(
        || "-".to_owned(),
        |condition| match condition.status {
            ConditionStatus::True => "yes".to_owned(),
            ConditionStatus::False | ConditionStatus::Unknown => condition.reason.clone(),
        },
    )
}

fn replicas(variant: &VariantStatus) -> String {
    let serving = variant.replicas.iter().filter(|replica| replica.state == ReplicaPhase::Serving).count();
    format!("{serving}/{}", variant.desired)
}

fn in_flight(variant: &VariantStatus) -> u32 {
    variant.replicas.iter().map(|replica| replica.in_flight).sum()
}

/// `5.1 ms (claim 0.2, specialize 0.8, load 4.1)`, with a back-off before them where there was one.
pub(super) fn cold_start(phases: &ColdStart) -> String {
    let ColdStart { backoff_ms, claim_ms, specialize_ms, load_ms } = *phases;
    let total = backoff_ms + claim_ms + specialize_ms + load_ms;
    let backoff = if backoff_ms > 0.0 { format!("backoff {backoff_ms:.1}, ") } else { String::new() };
    format!("{total:.1} ms ({backoff}claim {claim_ms:.1}, specialize {specialize_ms:.1}, load {load_ms:.1})")
}

/// Twelve hexadecimal digits, as container tools show digests.
fn short_digest(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

pub(super) fn or_dash(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
