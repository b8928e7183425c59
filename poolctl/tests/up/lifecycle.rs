//! How a stack ends, and what it leaves.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::stack::{Models, Stack, descendants, held_out, is_alive, until};

fn serving_stack() -> Stack {
    let models = Models::with_digits("");
    let stack = Stack::start(&models, &["--pool", "2"]);
    let (images, _) = held_out(1);
    assert_eq!(stack.post("/v1/models/digits:predict", &[], &json!({"instances": images})).status, 200);
    until("the pool is full again", || stack.pool()["idle"] == 2);
    stack
}

#[test]
fn sigterm_ends_it_with_0_and_leaves_no_process() {
    let mut stack = serving_stack();
    let processes = descendants(stack.pid());
    assert!(processes.len() >= 3, "two idle, one serving: {processes:?}");
    stack.signal(Signal::TERM);
    assert_eq!(stack.wait().code(), Some(0));
    assert_eq!(processes.into_iter().filter(|pid| is_alive(*pid)).collect::<Vec<_>>(), [] as [u32; 0]);
    assert!(TcpStream::connect(stack.address).is_err());
}

#[test]
fn a_second_signal_ends_it_at_once_and_leaves_no_process() {
    let mut stack = serving_stack();
    let processes = descendants(stack.pid());
    // a request that never ends keeps the first signal from being enough
    let mut open = TcpStream::connect(stack.address).unwrap();
    open.write_all(b"POST /v1/models/digits:predict HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{").unwrap();
    stack.signal(Signal::INT);
    until("it takes no new connection", || TcpStream::connect(stack.address).is_err());
    // so much later that it is no echo of the first
    std::thread::sleep(Duration::from_millis(400));
    stack.signal(Signal::INT);
    assert_eq!(stack.wait().code(), Some(130));
    until("no process is left", || processes.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn two_signals_in_one_moment_are_one() {
    let mut stack = serving_stack();
    // as `timeout` tells its child and then the group; of two kinds, so that the kernel does not make them one
    stack.signal(Signal::TERM);
    stack.signal(Signal::INT);
    assert_eq!(stack.wait().code(), Some(0));
}

#[test]
fn sigkill_leaves_no_process() {
    let mut stack = serving_stack();
    let processes = descendants(stack.pid());
    assert!(processes.len() >= 3, "{processes:?}");
    stack.signal(Signal::KILL);
    assert_eq!(stack.wait().code(), None);
    until("no process is left", || processes.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn idle_replicas_that_die_are_replaced() {
    let models = Models::with_digits("");
    let stack = Stack::start(&models, &["--pool", "1"]);
    for _ in 0..2 {
        let idle = stack.pool()["replicas"][0].clone();
        let pid = i32::try_from(idle["pid"].as_i64().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        until("another one is idle", || {
            let pool = stack.pool();
            pool["idle"] == 1 && pool["replicas"].as_array().unwrap().iter().all(|replica| replica["id"] != idle["id"])
        });
    }
    let (images, _) = held_out(1);
    assert_eq!(stack.post("/v1/models/digits:predict", &[], &json!({"instances": images})).status, 200);
}

#[test]
fn a_replica_that_dies_while_it_serves_is_made_good() {
    let models = Models::with_digits("  scaleToZeroAfter: 5m");
    let stack = Stack::start(&models, &["--pool", "1"]);
    let (images, truth) = held_out(1);
    let body = json!({"instances": images});
    assert_eq!(stack.post("/v1/models/digits:predict", &[], &body).status, 200);
    let pid = i32::try_from(stack.replicas("digits")[0]["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    until("it answers again", || {
        let answer = stack.post("/v1/models/digits:predict", &[], &body);
        answer.status == 200 && answer.body["predictions"][0]["label"] == truth[0]
    });
    assert_ne!(stack.replicas("digits")[0]["pid"], pid);
}
