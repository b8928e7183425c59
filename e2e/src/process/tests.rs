use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::{Process, Processes, Progress, SpawnError, WaitError, wait_until};

const LONG: Duration = Duration::from_secs(60);

fn sh(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/stat")).exists()
}

async fn gone(pid: u32) {
    let dead = async || if exists(pid) { Err(format!("process {pid} exists")) } else { Ok(()) };
    wait_until("its end", LONG, &Progress::silent(), dead).await.unwrap();
}

/// Waits until the log has a line, and gives its first one.
async fn first_line(process: &Process) -> String {
    let log = process.log().to_owned();
    let read = || async {
        let text = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
        text.split_once('\n').map(|(line, _)| line.to_owned()).ok_or("no line yet".to_owned())
    };
    wait_until("a line", LONG, &Progress::silent(), read).await.unwrap()
}

#[tokio::test]
async fn a_death_names_program_status_and_the_last_lines() {
    let folder = tempfile::tempdir().unwrap();
    let processes = Processes::default();
    let log = folder.path().join("logs/etcd.log");
    processes
        .spawn("etcd", sh("for i in $(seq 1 30); do echo line $i; done; echo bad disk >&2; exit 3"), &log)
        .unwrap();
    let death = processes.death().await;
    assert_eq!((death.name(), death.status().code()), ("etcd", Some(3)));
    let told = death.to_string();
    assert!(told.starts_with("etcd ended by itself (exit status: 3); the end of "), "{told}");
    assert!(told.ends_with("\n    line 30\n    bad disk"), "{told}");
    assert_eq!(told.lines().count(), 1 + 20, "{told}");
    assert!(!told.contains("line 11\n") && told.contains("line 12\n"), "{told}");
}

#[tokio::test]
async fn a_killed_process_is_a_death_only_when_somebody_else_killed_it() {
    let folder = tempfile::tempdir().unwrap();
    let processes = Processes::default();
    let ours = processes.spawn("ours", sh("sleep 600"), &folder.path().join("ours.log")).unwrap();
    let theirs = processes.spawn("theirs", sh("sleep 600"), &folder.path().join("theirs.log")).unwrap();
    ours.kill().await;
    assert!(!ours.is_running() && ours.death().is_none() && processes.dead().is_none());
    rustix::process::kill_process(Pid::from_raw(theirs.pid().cast_signed()).unwrap(), Signal::KILL).unwrap();
    let death = processes.death().await;
    assert_eq!((death.name(), death.status().signal()), ("theirs", Some(9)));
    assert!(death.to_string().contains("printed nothing"), "{death}");
}

#[tokio::test]
async fn a_wait_fails_at_once_when_a_process_dies_and_says_what_it_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let processes = Processes::default();
    processes.spawn("apiserver", sh("echo no such flag; exit 1"), &folder.path().join("log")).unwrap();
    let begin = Instant::now();
    let never = || async { Err::<(), _>("connection refused") };
    let error = processes.wait_until("the apiserver", LONG, &Progress::silent(), never).await.unwrap_err();
    assert!(matches!(error, WaitError::Death { .. }), "{error}");
    assert!(error.to_string().contains("waiting for the apiserver: apiserver ended by itself"), "{error}");
    assert!(begin.elapsed() < LONG);
}

#[tokio::test]
async fn a_wait_in_vain_says_what_for_and_why_not() {
    let (progress, told) = Progress::kept();
    let never = || async { Err::<(), _>("connection refused") };
    let error = wait_until("the webhook", Duration::from_millis(120), &progress, never).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("for the webhook, in vain") && error.ends_with("last: connection refused"), "{error}");
    let hangs = || std::future::pending::<Result<(), String>>();
    let error = wait_until("the relay", Duration::from_millis(10), &progress, hangs).await.unwrap_err();
    assert!(error.to_string().ends_with("the first probe gave no answer"), "{error}");
    wait_until("nothing", LONG, &progress, || async { Ok::<_, String>(()) }).await.unwrap();
    let told = told.lock();
    assert_eq!(told[..3], ["the webhook …", "the relay …", "nothing …"]);
    assert!(told[3].starts_with("nothing: after "), "{told:?}");
}

#[tokio::test]
async fn stopping_is_in_reverse_order_and_kills_what_does_not_listen() {
    let folder = tempfile::tempdir().unwrap();
    let order = folder.path().join("order");
    let processes = Processes::default();
    for name in ["first", "second"] {
        let script =
            format!("trap 'echo {name} >> {}; exit 0' TERM; echo up; while :; do sleep 0.01; done", order.display());
        let process = processes.spawn(name, sh(&script), &folder.path().join(name)).unwrap();
        first_line(&process).await;
    }
    let deaf = processes.spawn("deaf", sh("trap '' TERM; echo up; sleep 600"), &folder.path().join("deaf")).unwrap();
    first_line(&deaf).await;
    assert_eq!(
        processes.all().iter().map(|process| process.name().to_owned()).collect::<Vec<_>>(),
        ["first", "second", "deaf"]
    );
    processes.stop(Duration::from_millis(500)).await;
    assert_eq!(deaf.ended().await.signal(), Some(9));
    assert_eq!(std::fs::read_to_string(order).unwrap(), "second\nfirst\n");
    assert!(processes.all().is_empty() && processes.dead().is_none());
}

#[tokio::test]
async fn a_group_goes_with_its_leader_and_with_the_last_handle() {
    let folder = tempfile::tempdir().unwrap();
    let leaves = Process::spawn("leaves", sh("sleep 600 & echo $!"), &folder.path().join("leaves")).unwrap();
    leaves.ended().await;
    gone(first_line(&leaves).await.parse().unwrap()).await;

    let dropped = Process::spawn("dropped", sh("sleep 600 & echo $!; wait"), &folder.path().join("dropped")).unwrap();
    let (leader, member) = (dropped.pid(), first_line(&dropped).await.parse().unwrap());
    let handle = dropped.clone();
    drop(dropped);
    assert!(handle.is_running());
    drop(handle);
    gone(leader).await;
    gone(member).await;
}

#[tokio::test]
async fn what_cannot_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let error = Process::spawn("kubelet", Command::new("/nonexistent/kubelet"), &log).unwrap_err();
    assert!(error.to_string().starts_with("kubelet (/nonexistent/kubelet) cannot be started: "), "{error}");
    let error = Process::spawn("kubelet", sh(":"), Path::new("/proc/nonexistent/log")).unwrap_err();
    assert!(error.to_string().starts_with("the log /proc/nonexistent/log of kubelet cannot be opened: "), "{error}");

    let processes = Processes::default();
    let first = processes.spawn("once", sh("sleep 600"), &log).unwrap();
    assert!(matches!(processes.spawn("once", sh(":"), &log), Err(SpawnError::Running(name)) if name == "once"));
    first.kill().await;
    let again = processes.spawn("once", sh("sleep 600"), &log).unwrap();
    assert_eq!(processes.all().len(), 1);
    assert_eq!(processes.get("once").unwrap().pid(), again.pid());
}

/// Forked children would die with a thread that has ended: the supervising thread must be one that stays.
#[test]
fn a_process_outlives_the_thread_and_the_runtime_that_asked_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let start = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let task = runtime.spawn(async move { Process::spawn("stays", sh("echo up; sleep 600"), &log).unwrap() });
        runtime.block_on(task).unwrap()
    };
    let process = std::thread::spawn(start).join().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        first_line(&process).await;
        assert!(process.is_running());
        process.kill().await;
    });
}

/// What the next test starts and kills; alone it does nothing.
#[test]
fn parent_to_be_killed() {
    let Some(log) = std::env::var_os("E2E_TEST_ORPHAN_LOG") else { return };
    let _child = Process::spawn("child", sh("echo $$; sleep 600"), Path::new(&log)).unwrap();
    std::thread::sleep(LONG);
}

#[tokio::test]
async fn no_child_survives_a_parent_killed_with_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let child_log = folder.path().join("child");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process::tests::parent_to_be_killed"]).env("E2E_TEST_ORPHAN_LOG", &child_log);
    let parent = Process::spawn("parent", command, &folder.path().join("parent")).unwrap();
    let read = || async {
        let text = std::fs::read_to_string(&child_log).map_err(|error| error.to_string())?;
        text.trim().parse::<u32>().map_err(|error| error.to_string())
    };
    let child = wait_until("the child", LONG, &Progress::silent(), read).await.unwrap();
    assert!(exists(child));
    // Only the parent, not its group: the child is in a group of its own anyway.
    rustix::process::kill_process(Pid::from_raw(parent.pid().cast_signed()).unwrap(), Signal::KILL).unwrap();
    gone(child).await;
}
