//! Addresses on a command line.

use std::net::SocketAddr;

/// The address IP:PORT that `text` is. Who writes another thing is shown one with the port that is `USUAL` there.
///
/// # Errors
/// It is none; the message says what is expected.
pub fn parse<const USUAL: u16>(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("expected IP:PORT, such as 127.0.0.1:{USUAL} (this machine alone) or 0.0.0.0:{USUAL} (every network)")
    })
}
