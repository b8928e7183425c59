//! Runs that are cut short: by their deadline, by their caller, by a place that is taken.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::Wrapper;

/// More rounds than any test waits for.
const ENDLESS: &str = r#"{"inputs":[{"name":"rounds","shape":[1],"datatype":"INT64","data":[1000000000000]}]}"#;
const SHORT: &str = r#"{"inputs":[{"name":"rounds","shape":[1],"datatype":"INT64","data":[1]}]}"#;
const PATH: &str = "/v2/models/slow/infer";

fn answers(wrapper: &Wrapper) {
    assert_eq!(wrapper.post(PATH, SHORT).ok()["outputs"][0]["data"], json!([1.0]));
}

#[test]
fn a_deadline_ends_the_run() {
    let wrapper = Wrapper::serving("slow", &[]);
    let begun = Instant::now();
    wrapper.connect().post(PATH, "x-request-timeout: 0.2\r\n", ENDLESS.as_bytes()).refused(504, "deadline");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    // The only session would be busy for days had the run not ended.
    answers(&wrapper);
}

#[test]
fn a_deadline_ends_a_run_that_was_expected_to_be_brief() {
    let wrapper = Wrapper::serving("slow", &[]);
    let mut connection = wrapper.connect();
    for _ in 0..50 {
        connection.post(PATH, "", SHORT.replace("[1]}", "[0]}").as_bytes()).ok();
    }
    connection.post(PATH, "x-request-timeout: 0.2\r\n", ENDLESS.as_bytes()).refused(504, "deadline");
    answers(&wrapper);
}

#[test]
fn the_servers_own_timeout_caps_the_callers() {
    let wrapper = Wrapper::serving("slow", &["--timeout", "0.2"]);
    wrapper.connect().post(PATH, "x-request-timeout: 3600\r\n", ENDLESS.as_bytes()).refused(504, "deadline");
    answers(&wrapper);
}

#[test]
fn a_slow_body_has_the_same_deadline() {
    let wrapper = Wrapper::serving("slow", &["--concurrency", "1"]);
    let mut connection = wrapper.connect();
    connection.send(
        format!("POST {PATH} HTTP/1.1\r\nhost: test\r\nx-request-timeout: 0.2\r\ncontent-length: 100\r\n\r\n{{")
            .as_bytes(),
    );
    connection.answer().refused(504, "deadline");
    answers(&wrapper);
}

#[test]
fn a_caller_that_leaves_ends_its_run() {
    let wrapper = Wrapper::serving("slow", &["--concurrency", "1"]);
    let mut leaving = wrapper.connect();
    leaving.send(
        format!("POST {PATH} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{ENDLESS}", ENDLESS.len()).as_bytes(),
    );
    taken(&wrapper);
    drop(leaving);
    let freed = Instant::now();
    while wrapper.post(PATH, SHORT).status != 200 {
        assert!(freed.elapsed() < Duration::from_secs(60), "the place is still taken");
    }
}

#[test]
fn a_surplus_request_is_refused_before_its_body_is_asked_for() {
    let wrapper = Wrapper::serving("slow", &["--concurrency", "1"]);
    let mut first = wrapper.connect();
    first.send(
        format!("POST {PATH} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{ENDLESS}", ENDLESS.len()).as_bytes(),
    );
    taken(&wrapper);
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        SHORT.len()
    );
    let answer = wrapper.connect().exchange(head.as_bytes());
    answer.refused(503, "replica-busy");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(wrapper.get("/v2/health/ready").status, 200);
}

/// Waits until the only place is taken.
fn taken(wrapper: &Wrapper) {
    let begun = Instant::now();
    while wrapper.post(PATH, SHORT).status != 503 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the place is still free");
    }
}
