//! Ends that leave no time.

use std::io::Read as _;

use rustix::process::{Signal, getpid, kill_process};

/// Ends the process without its exit handlers.
///
/// ONNX Runtime's would pull its tables from under a run in progress, which then answers nonsense or crashes.
pub(crate) fn at_once() {
    // It fails for a process that does not exist only.
    let _ = kill_process(getpid(), Signal::KILL);
}

/// Ends the process with success, like [`at_once`] without its exit handlers.
#[allow(unsafe_code, reason = "nothing else ends a process so")]
pub(crate) fn well() -> ! {
    // SAFETY: it takes a number and does not return. Nothing of this process is left half written by it: output is written
    // line by line.
    unsafe { libc::_exit(0) }
}

/// Ends the process once standard input is closed.
///
/// The parent holds the other end and the system closes it however the parent dies, SIGKILL included, so no wrapper outlives
/// whom it works for. Nobody is left to answer to, hence at once.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn when_stdin_closes() -> std::io::Result<()> {
    std::thread::Builder::new().name("stdin".to_owned()).spawn(|| {
        let mut ignored = [0; 64];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut ignored) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // Not logged: the parent held the other end of the log too.
        at_once();
    })?;
    Ok(())
}
