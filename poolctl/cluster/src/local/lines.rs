//! What a replica says on stdout and stderr.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// Longest line that is taken as one; a longer one is cut into several. Log lines are a few hundred bytes.
const MAX_LINE_BYTES: u64 = 8 * 1024;

/// Lines of a child's pipe, each of bounded length.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(pipe: R) -> Self {
        Self { reader: BufReader::new(pipe), buffer: Vec::new() }
    }

    /// The next line without its end; `None` when the pipe is closed or broken.
    ///
    /// Safe to cancel: what was read stays buffered.
    pub(super) async fn next(&mut self) -> Option<String> {
        let room = MAX_LINE_BYTES.saturating_sub(self.buffer.len() as u64);
        let mut limited = AsyncReadExt::take(&mut self.reader, room);
        let read = limited.read_until(b'\n', &mut self.buffer).await.unwrap_or(0);
        if read == 0 && self.buffer.is_empty() {
            return None;
        }
        let line = String::from_utf8_lossy(&self.buffer).trim_end().to_owned();
        self.buffer.clear();
        Some(line)
    }
}

/// The addresses that a wrapper announces on stdout, one a line, `ready` last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) admin: Option<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) ready: Option<SocketAddr>,
}

impl Announced {
    /// Takes a line such as `ready http://127.0.0.1:41234`. Other lines are not announcements and are left alone.
    ///
    /// # Errors
    /// The line announces something that is not an address.
    pub(super) fn read(&mut self, line: &str) -> Result<(), String> {
        let Some((what, url)) = line.split_once(' ') else { return Ok(()) };
        let slot = match what {
            "admin" => &mut self.admin,
            "metrics" => &mut self.metrics,
            "ready" => &mut self.ready,
            _ => return Ok(()),
        };
        let address = url.trim().strip_prefix("http://").and_then(|address| address.trim_end_matches('/').parse().ok());
        let Some(address) = address else {
            return Err(format!("it announced {line:?}: expected `{what} http://IP:PORT`"));
        };
        *slot = Some(address);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_lines_are_cut_and_the_rest_is_kept() {
        let long = "x".repeat(usize::try_from(MAX_LINE_BYTES).unwrap() + 10);
        let input = format!("one\n{long}\nlast without end");
        let mut lines = Lines::new(input.as_bytes());
        assert_eq!(lines.next().await.as_deref(), Some("one"));
        assert_eq!(lines.next().await.map(|line| line.len() as u64), Some(MAX_LINE_BYTES));
        assert_eq!(lines.next().await.as_deref(), Some("xxxxxxxxxx"));
        assert_eq!(lines.next().await.as_deref(), Some("last without end"));
        assert_eq!(lines.next().await, None);
    }

    #[test]
    fn announcements_are_read_and_other_lines_are_not() {
        let mut announced = Announced::default();
        announced.read("loading things").unwrap();
        announced.read("admin http://127.0.0.1:1").unwrap();
        announced.read("ready http://127.0.0.1:2/").unwrap();
        assert_eq!(announced.admin, Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!(announced.ready, Some("127.0.0.1:2".parse().unwrap()));
        assert_eq!(announced.metrics, None);
        let error = announced.read("metrics tcp://127.0.0.1:3").unwrap_err();
        assert!(error.contains("metrics http://IP:PORT"), "{error}");
    }
}
