//! How a stack ends, and what it leaves.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::stack::{Models, Stack, descendants, is_alive, until};
use crate::tree::{held_out, poolctl};

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
fn no_end_leaves_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let models = Models::with_digits("");
    let start = || {
        let mut program = poolctl();
        program.env("TMPDIR", folder.path());
        Stack::start_with(program, &models, &["--pool", "0"])
    };
    let files = || fs::read_dir(folder.path()).unwrap().count();
    let mut stack = start();
    assert_eq!(files(), 1, "the private folder");
    stack.signal(Signal::TERM);
    stack.wait();
    assert_eq!(files(), 0);

    let mut stack = start();
    let mut open = TcpStream::connect(stack.address).unwrap();
    open.write_all(b"POST /v1/models/digits:predict HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{").unwrap();
    stack.signal(Signal::TERM);
    until("it takes no new connection", || TcpStream::connect(stack.address).is_err());
    std::thread::sleep(Duration::from_millis(400));
    stack.signal(Signal::TERM);
    assert_eq!(stack.wait().code(), Some(130));
    assert_eq!(files(), 0);

    // what one that was killed left goes with the next, and what belongs to one that runs stays
    let (mut killed, running) = (start(), start());
    killed.signal(Signal::KILL);
    killed.wait();
    assert_eq!(files(), 2);
    let mut next = start();
    assert_eq!(files(), 2);
    next.signal(Signal::TERM);
    next.wait();
    assert_eq!(files(), 1);
    drop(running);
}

#[test]
fn clients_of_the_admin_address_keep_no_stack_from_stopping() {
    let mut stack = serving_stack();
    let mut open: Vec<_> = (0..100).map(|_| TcpStream::connect(stack.admin).unwrap()).collect();
    for stream in &mut open[90..] {
        stream.write_all(b"GET /status HTTP/1.1\r\n").unwrap();
    }
    assert_eq!(stack.pool()["idle"], 2, "it is still asked by others");
    stack.signal(Signal::TERM);
    assert_eq!(stack.wait().code(), Some(0));
}

#[test]
fn it_may_have_as_many_descriptors_as_the_system_allows() {
    let models = Models::with_digits("");
    let real = poolctl();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -Sn 200; exec \"$0\" \"$@\""]).arg(real.get_program());
    shell.envs(real.get_envs().filter_map(|(name, value)| Some((name, value?)))).env_remove("KFERVING_WRAPPER");
    let stack = Stack::start_with(shell, &models, &["--pool", "0"]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", stack.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let values: Vec<_> = line.split_whitespace().collect();
    assert_eq!(values[0], values[1], "{line}");
}

#[test]
fn a_model_server_may_be_named_from_here() {
    let models = Models::with_digits("");
    let wrapper = Path::new(env!("CARGO_BIN_EXE_poolctl")).with_file_name("model-wrapper");
    symlink(wrapper, models.path().join("server")).unwrap();
    let mut program = poolctl();
    program.current_dir(models.path());
    let stack = Stack::start_with(program, &models, &["--pool", "1", "--wrapper", "server"]);
    assert_eq!(stack.pool()["idle"], 1);
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
