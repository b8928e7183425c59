//! The lines on standard output that tell a script where a process listens.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;

/// Prints `NAME http://ADDR` and flushes it.
///
/// By contract a process prints one line per listener and `ready` last, once it answers. A port of 0 was replaced by the
/// one that the system gave.
///
/// # Errors
/// Standard output is closed.
pub fn line(name: &str, addr: SocketAddr) -> io::Result<()> {
    location(name, format_args!("http://{addr}"))
}

/// Prints `NAME LOCATION` and flushes it: for a listener that is not a TCP port, a Unix socket's `unix:/PATH` say.
///
/// # Errors
/// Standard output is closed.
pub fn location(name: &str, location: impl fmt::Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{name} {location}")?;
    stdout.flush()
}

/// The address in an announced line, if `line` announces `name`.
#[must_use]
pub fn parse(name: &str, line: &str) -> Option<SocketAddr> {
    line.trim_end().strip_prefix(name)?.strip_prefix(" http://")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back() {
        let addr: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(parse("ready", "ready http://127.0.0.1:8080\n"), Some(addr));
        assert_eq!(parse("ready", "admin http://127.0.0.1:8080"), None);
        assert_eq!(parse("ready", "ready to go"), None);
    }
}
