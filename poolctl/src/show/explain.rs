//! Why a model has its replicas, and what its next request would cost: in words.

use std::fmt::Write;

use autoscaler_policy::Verdict;
use autoscaler_policy::service::Evidence;

use crate::admin::messages::{ColdPath, Explanation, NextRequest, Outcome, PlanExplanation};

use super::status::models_table;
use super::table::{Align, Table};

pub(super) fn render(explanation: &Explanation) -> String {
    let model = &explanation.model;
    let mut text = models_table(std::slice::from_ref(model)).to_string();
    for condition in &model.conditions {
        if !condition.message.is_empty() {
            line(&mut text, format_args!("{}: {}: {}", condition.type_, condition.reason, condition.message));
        }
    }
    line(&mut text, format_args!("\nWhy these replicas"));
    match &explanation.plan {
        Some(plan) => plan_text(&mut text, plan),
        None => line(&mut text, format_args!("  The autoscaler has not looked at this model yet.")),
    }
    next_request(&mut text, &explanation.next_request);
    text
}

fn plan_text(text: &mut String, plan: &PlanExplanation) {
    match plan.report_age_seconds {
        Some(age) => {
            let idle = match plan.idle_seconds {
                Some(idle) => format!("the last request {idle:.1} s ago"),
                None => "no request so far".to_owned(),
            };
            let (held, in_flight) = (plan.held, plan.in_flight);
            line(text, format_args!("  Demand as reported {age:.1} s ago: {held} held, {in_flight} in flight; {idle}"));
        }
        None => line(text, format_args!("  Demand: no gateway has reported yet")),
    }
    line(
        text,
        format_args!(
            "  Concurrency: {:.2} over the stable window, {:.2} over the panic window{}",
            plan.stable_concurrency,
            plan.panic_concurrency,
            if plan.panicking { "; in panic: nothing is scaled down" } else { "" }
        ),
    );
    if plan.silent_gateways > 0 {
        line(text, format_args!("  {} gateways are silent: nothing is scaled down", plan.silent_gateways));
    }
    line(text, format_args!("  Objective: {}", objective(plan)));

    let mut variants = Table::new(&[
        ("  DEVICE", Align::Left),
        ("READY", Align::Right),
        ("DESIRED", Align::Right),
        ("MIN", Align::Right),
        ("MAX", Align::Right),
        ("SERVICE MS", Align::Right),
        ("", Align::Left),
        ("TARGET", Align::Right),
        ("COST/S", Align::Right),
        ("WHY", Align::Left),
    ]);
    for variant in &plan.variants {
        variants.row([
            format!("  {}", variant.device),
            variant.ready.to_string(),
            variant.desired.to_string(),
            variant.min.to_string(),
            variant.max.to_string(),
            format!("{:.2}", variant.service_ms),
            evidence(variant.evidence).to_owned(),
            format!("{:.2}", variant.target_concurrency),
            variant.cost.to_string(),
            variant.obstacle.as_ref().map_or_else(|| variant.why.clone(), |why| format!("{}: {why}", variant.why)),
        ]);
    }
    text.push_str(&variants.to_string());

    let mut mixes = Table::new(&[
        ("  CPU", Align::Right),
        ("GPU", Align::Right),
        ("COST/S", Align::Right),
        ("CARRIES THE LOAD", Align::Left),
        ("", Align::Left),
    ]);
    for mix in &plan.alternatives {
        mixes.row([
            format!("  {}", mix.cpu),
            mix.gpu.to_string(),
            mix.cost.to_string(),
            if mix.carries { "yes" } else { "no" }.to_owned(),
            if mix.chosen { "<- chosen" } else { "" }.to_owned(),
        ]);
    }
    if !mixes.is_empty() {
        line(text, format_args!("\nMixes that were weighed"));
        text.push_str(&mixes.to_string());
    }
}

fn objective(plan: &PlanExplanation) -> String {
    let Some(millis) = plan.objective_ms else {
        return match plan.fit {
            Verdict::Overloaded => "none; the plan is all there can be, and does not carry the load".to_owned(),
            _ => "none".to_owned(),
        };
    };
    let verdict = match plan.fit {
        Verdict::NoObjective | Verdict::Unmeasured => {
            "nothing was measured yet that would tell whether the plan keeps it"
        }
        Verdict::WithinObjective => "the plan keeps it",
        Verdict::ObjectiveMissed => "the plan carries the load, but no mix keeps it",
        Verdict::Overloaded => "the plan is all there can be, and does not carry the load",
    };
    format!("{millis:.0} ms per request; {verdict}")
}

const fn evidence(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Measured => "measured",
        Evidence::OtherSizes => "of other sizes",
        Evidence::OtherDevice => "from the other device",
        Evidence::Prior => "a guess",
    }
}

/// What would become of the request.
fn outcome(next: &NextRequest) -> String {
    match next.outcome {
        Outcome::Sent => format!("would go to {}: {}", next.chosen.as_deref().unwrap_or("a replica"), next.reason),
        Outcome::Held => "would be held until a replica has room".to_owned(),
        Outcome::Refused => match &next.refusal {
            Some(why) => format!("would be refused: {}: {why}", next.reason),
            None => format!("would be refused: {}", next.reason),
        },
        Outcome::ColdStart => next.cold_start.as_ref().map_or_else(|| "would be held".to_owned(), cold_start),
    }
}

fn cold_start(cold: &ColdPath) -> String {
    let last =
        cold.last_ms.map_or_else(|| "never done before".to_owned(), |millis| format!("{millis:.1} ms the last time"));
    if cold.idle > 0 {
        format!("would be held while it claims one of the {} idle replicas of pool {}: {last}", cold.idle, cold.pool)
    } else {
        format!("would be held while a replica is started, as pool {} has none that is idle: {last}", cold.pool)
    }
}

fn next_request(text: &mut String, next: &NextRequest) {
    line(text, format_args!("\nThe next request ({} bytes, aim {:.0} ms)", next.request_bytes, next.target_ms));
    line(text, format_args!("  {}", outcome(next)));
    let mut devices = Table::new(&[
        ("  DEVICE", Align::Left),
        ("UP", Align::Left),
        ("START MS", Align::Right),
        ("PREDICTED MS", Align::Right),
        ("", Align::Left),
        ("COST/S", Align::Right),
        ("IN FLIGHT", Align::Right),
        ("ROOM FOR", Align::Right),
    ]);
    for device in &next.devices {
        let start = match (device.active, device.activation_ms) {
            (true, _) => "0".to_owned(),
            (false, Some(millis)) => format!("{millis:.1}"),
            (false, None) => "unknown".to_owned(),
        };
        devices.row([
            format!("  {}", device.device),
            if device.active { "yes" } else { "no" }.to_owned(),
            start,
            format!("{:.2}", device.predicted_ms),
            if device.measured { "measured" } else { "a guess" }.to_owned(),
            device.cost.to_string(),
            device.in_flight.to_string(),
            device.concurrency.saturating_sub(device.in_flight).to_string(),
        ]);
    }
    if devices.is_empty() {
        line(text, format_args!("  No device can serve it."));
    } else {
        text.push_str(&devices.to_string());
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a String does not fail");
}
