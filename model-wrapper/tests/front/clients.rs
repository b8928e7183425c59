//! Client libraries that people use, driven by the scripts in tests/clients.

use crate::support::{Wrapper, clients, python};

fn run(script: &str, wrappers: &[&Wrapper]) {
    let addresses = wrappers.iter().map(|wrapper| wrapper.addr.to_string());
    let output = python().arg(clients().join(script)).args(addresses).output().expect("Python starts");
    assert!(output.status.success(), "{script}:\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn triton_over_http() {
    run("triton_http.py", &[&Wrapper::serving("types", &[])]);
}

#[test]
fn triton_over_grpc() {
    run(
        "triton_grpc.py",
        &[&Wrapper::serving("types", &[]), &Wrapper::serving("pair", &[]), &Wrapper::serving("slow", &[])],
    );
}

#[test]
fn curl_with_large_and_compressed_bodies() {
    run("with_curl.py", &[&Wrapper::serving("reciprocal", &[])]);
}
