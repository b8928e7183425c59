//! The end of standard input as the sign that the parent is gone.

use std::io::Read as _;

/// Ends the process once standard input is closed.
///
/// The parent holds the other end and the system closes it however the parent dies, SIGKILL included, so no wrapper outlives
/// whom it works for. Nobody is left to answer to, hence at once.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn exit_when_closed() -> std::io::Result<()> {
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
        tracing::info!("standard input was closed: the parent is gone");
        std::process::exit(0);
    })?;
    Ok(())
}
