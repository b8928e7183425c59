//! What happens when somebody loses patience.

use std::{io, thread};

use poolctl_image::Scratch;
use tokio::signal::unix::{SignalKind, signal};

use crate::show;

/// Has SIGINT and SIGTERM end the process at once, and what is not complete with it.
///
/// # Errors
/// The signals cannot be listened to.
pub(super) fn end_on_signals(scratch: Scratch) -> io::Result<()> {
    let runtime = show::runtime()?;
    let entered = runtime.enter();
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    let (mut interrupted, mut terminated) = (signal(interrupt)?, signal(terminate)?);
    drop(entered);
    let wait = async move {
        tokio::select! {
            _ = interrupted.recv() => interrupt,
            _ = terminated.recv() => terminate,
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let told = runtime.block_on(wait);
        scratch.give_up();
        // as shells report a process that a signal ended
        std::process::exit(128 + told.as_raw_value());
    })?;
    Ok(())
}
