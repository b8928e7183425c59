//! Every scenario's smoke run against the real binaries.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use loadtests::proc_stats;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// No smoke run takes longer, on a busy machine with two cores and a debug build.
const PATIENCE: Duration = Duration::from_secs(120);

/// A scenario uses every core: one at a time.
static MACHINE: Mutex<()> = Mutex::new(());

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn loadtest(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.current_dir(repository()).args(arguments).stdin(Stdio::null());
    command
}

struct Run {
    output: Output,
    json: Value,
    html: String,
}

/// What a command wrote until its end; it is stopped when it takes too long.
fn output(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (done, ended) = std::sync::mpsc::channel();
    let guard = std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE).is_err() {
            kill_process(pid, Signal::TERM).unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    done.send(()).unwrap();
    guard.join().unwrap();
    output
}

/// Runs a scenario to its end.
fn run(arguments: &[&str]) -> Run {
    let _alone = MACHINE.lock();
    let directory = tempfile::tempdir().unwrap();
    let (json, html) = (directory.path().join("r.json"), directory.path().join("r.html"));
    let mut command = loadtest(arguments);
    command.arg("--quick").arg("--json").arg(&json).arg("--html").arg(&html);
    let output = output(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} ended with {}:\n{text}", output.status);
    let json = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let html = std::fs::read_to_string(html).unwrap();
    Run { output, json, html }
}

impl Run {
    /// The series of that name; every place that shows results must have it.
    fn series(&self, name: &str) -> &Value {
        let all = self.json["series"].as_array().unwrap();
        let series = all.iter().find(|series| series["name"] == name);
        let series = series.unwrap_or_else(|| panic!("no series {name} in {}", self.json));
        assert!(String::from_utf8_lossy(&self.output.stdout).contains(name), "{name} is not in the table");
        assert!(self.html.contains(&format!(">{name}<")), "{name} is not in the page");
        series
    }

    fn samples(&self, name: &str) -> u64 {
        self.series(name)["samples"].as_u64().unwrap()
    }
}

#[test]
fn idle_starts_wrappers() {
    let run = run(&["idle"]);
    assert_eq!(run.json["scenario"], "idle");
    assert_eq!(run.samples("spawn to ready"), 2);
    assert!(run.series("spawn to ready")["rss_bytes"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn wrapper_compares_with_the_bare_loop() {
    let run = run(&["wrapper", "--models", "digits", "--models-dir", "examples/models"]);
    assert!(run.samples("digits bare") > 0);
    for way in ["wrapper binary", "wrapper JSON", "wrapper, 2 cores, binary", "wrapper, 2 cores, JSON"] {
        let way = format!("digits {way}");
        assert!(run.samples(&way) > 0 && run.series(&way)["errors"] == serde_json::json!({}), "{}", run.json);
        assert!(run.series(&way)["cpu_us_per_request"].as_f64().unwrap() > 0.0);
    }
    for ratio in ["wrapper_to_bare_digits_binary", "wrapper_to_bare_digits_binary_two_cores"] {
        assert!(run.json["ratios"][ratio].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn gateway_is_measured_beside_the_direct_way() {
    // As on a machine where a stack runs: the admin port that a gateway takes by default is not free.
    let _taken = std::net::TcpListener::bind("127.0.0.1:8081");
    let run = run(&["gateway", "--peers", "none"]);
    for case in ["1 KiB c=1", "1 KiB c=64", "600 KiB c=1", "600 KiB c=64"] {
        for way in ["direct", "gateway"] {
            let series = run.series(&format!("{way} {case}"));
            assert!(series["samples"].as_u64().unwrap() > 0 && series["errors"] == serde_json::json!({}), "{series}");
        }
    }
}

#[test]
fn cold_starts_are_cold_with_and_without_a_pool() {
    let run = run(&["cold-start", "--pools", "0,2"]);
    for pool in ["pool 0", "pool 2"] {
        assert_eq!(run.samples(pool), 4);
        for phase in ["hold", "claim", "specialize", "load", "queue", "infer"] {
            assert!(run.series(pool)["phases_us"][phase]["p50"].is_number(), "{phase} in {}", run.json);
        }
    }
    assert_eq!(run.samples("burst, pool 2"), 4);
    assert!(run.json["ratios"]["p50_pool_0_to_pool_2"].is_number());
}

#[test]
fn a_herd_is_answered() {
    let run = run(&["herd"]);
    assert_eq!(run.samples("containerConcurrency 1"), 1000);
}

#[test]
fn a_trace_is_answered_with_and_without_a_pool() {
    let run = run(&["zipf", "--pools", "2,0"]);
    assert_eq!(run.samples("pool 2, all"), run.samples("pool 0, all"));
    assert!(run.samples("pool 0, cold starts") > 0);
    assert!(run.json["ratios"]["hit_rate_pool_2"].as_f64().unwrap() > 0.0);
    assert_eq!(run.json["ratios"]["hit_rate_pool_0"].as_f64().unwrap(), 0.0);
}

#[test]
fn killed_processes_take_only_their_own_requests_with_them() {
    let run = run(&["chaos", "--arrivals", "constant"]);
    assert!(run.samples("requests") > 100);
    assert!(run.json["figures"]["kills"].as_f64().unwrap() >= 1.0);
}

#[test]
fn an_interrupted_scenario_leaves_no_process_behind() {
    let _alone = MACHINE.lock();
    let mut child =
        loadtest(&["idle", "--samples", "10000"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let wrappers = loop {
        let wrappers = proc_stats::descendants(child.id());
        if !wrappers.is_empty() {
            break wrappers;
        }
        assert!(Instant::now() < deadline, "it started nothing");
        std::thread::yield_now();
    };
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = {
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(1));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
        text
    };
    assert!(output.contains("interrupted"), "{output}");
    assert!(wrappers.into_iter().all(proc_stats::has_ended));
}

#[test]
fn a_missing_binary_is_named_with_the_command_that_builds_it() {
    let output = loadtest(&["idle", "--wrapper", "/nowhere/model-wrapper"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("/nowhere/model-wrapper") && text.contains("cargo build"), "{text}");
}

/// What it says of options that it does not take.
fn refusal(arguments: &[&str]) -> String {
    let output = output(loadtest(arguments));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {text}");
    text
}

#[test]
fn options_that_a_scenario_does_not_use_are_refused() {
    for arguments in [
        ["idle", "--model-file", "/nowhere/m.onnx"],
        ["gateway", "--model-file", "/nowhere/m.onnx"],
        ["wrapper", "--model-file", "/nowhere/m.onnx"],
        ["echo", "--model-file", "/nowhere/m.onnx"],
        ["idle", "--poolctl", "/nowhere/poolctl"],
        ["herd", "--gateway", "/nowhere/gateway"],
        ["gateway", "--wrapper", "/nowhere/model-wrapper"],
        ["idle", "--seed", "2"],
        ["wrapper", "--python", "/nowhere/python3"],
        ["echo", "--json", "/nowhere/r.json"],
    ] {
        let text = refusal(&arguments);
        assert!(text.contains(arguments[1]), "{arguments:?}: {text}");
    }
}

#[test]
fn a_number_beside_quick_is_refused() {
    for (scenario, numbers) in [
        ("idle", vec!["--samples"]),
        ("cold-start", vec!["--samples", "--bursts"]),
        ("gateway", vec!["--rounds", "--milliseconds"]),
        ("wrapper", vec!["--rounds", "--milliseconds"]),
        ("herd", vec!["--concurrency"]),
        ("zipf", vec!["--models", "--seconds"]),
        ("chaos", vec!["--seconds", "--kill-every-ms", "--pool"]),
    ] {
        for number in numbers {
            let text = refusal(&[scenario, "--quick", number, "3"]);
            assert!(text.contains(number) && text.contains("cannot be used with"), "{scenario} {number}: {text}");
        }
    }
}

#[test]
fn measuring_nothing_is_refused() {
    for arguments in [
        ["idle", "--samples", "0"],
        ["cold-start", "--samples", "0"],
        ["cold-start", "--bursts", "0"],
        ["cold-start", "--services", "0"],
        ["gateway", "--rounds", "0"],
        ["gateway", "--milliseconds", "0"],
        ["wrapper", "--rounds", "0"],
        ["wrapper", "--milliseconds", "0"],
        ["herd", "--requests", "0"],
        ["herd", "--concurrency", "0"],
        ["zipf", "--models", "0"],
        ["zipf", "--seconds", "0"],
        ["zipf", "--squeeze", "0"],
        ["chaos", "--seconds", "0"],
        ["chaos", "--kill-every-ms", "0"],
        ["chaos", "--rate", "NaN"],
    ] {
        let text = refusal(&arguments);
        assert!(text.contains("invalid value") && text.contains(arguments[1]), "{arguments:?}: {text}");
    }
}

#[test]
fn an_option_of_another_target_is_refused() {
    let knative = ["cold-start", "--target", "knative"];
    let with_image = [&knative[..], &["--image", "registry.example/m:v1"]].concat();
    for (target, option) in [
        (&knative[..], ["--pools", "1"]),
        (&knative, ["--order", "sequential"]),
        (&with_image, ["--wrapper", "model-wrapper"]),
        (&with_image, ["--poolctl", "poolctl"]),
        (&["cold-start"], ["--image", "registry.example/m:v1"]),
    ] {
        let arguments = [target, &option[..]].concat();
        let text = refusal(&arguments);
        assert!(text.contains(option[0]) || text.contains("--target knative"), "{arguments:?}: {text}");
    }
}

#[test]
fn a_result_that_cannot_be_written_is_told_before_anything_is_started() {
    for kind in ["--json", "--html"] {
        // Starting something would fail too, with another message.
        let text = refusal(&["idle", kind, "/nowhere/result", "--wrapper", "/nowhere/model-wrapper"]);
        assert!(text.contains("/nowhere/result"), "{kind}: {text}");
    }
}
