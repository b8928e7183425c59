//! Pages that processes show of themselves, metrics in the Prometheus text format among them.

use std::net::SocketAddr;

use anyhow::bail;
use bytes::Bytes;

use crate::http1::{self, Connection, Keep};
use crate::sockets::{self, State};

/// A page that is read again and again, over one connection while it lasts.
#[derive(Debug)]
pub struct Page {
    addr: SocketAddr,
    path: &'static str,
    connection: Option<Connection>,
}

impl Page {
    /// The page at `path` of `addr`.
    #[must_use]
    pub const fn new(addr: SocketAddr, path: &'static str) -> Self {
        Self { addr, path, connection: None }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{}", self.addr, self.path)
    }

    /// What it says now.
    ///
    /// # Errors
    /// It does not answer with 200.
    pub async fn read(&mut self) -> anyhow::Result<Bytes> {
        let mut connection = match self.connection.take().filter(|connection| !connection.is_stale()) {
            Some(connection) => connection,
            None => Connection::open(self.addr).await?,
        };
        let answer = connection.exchange(&http1::get(&self.addr.to_string(), self.path), Keep::Body).await?;
        if answer.status != 200 {
            bail!("{} answered {}", self.url(), answer.status);
        }
        self.connection = answer.reusable.then_some(connection);
        Ok(answer.body)
    }

    /// The values of one metric on it, labels left out.
    ///
    /// # Errors
    /// As [`Page::read`].
    pub async fn samples(&mut self, metric: &str) -> anyhow::Result<Vec<f64>> {
        Ok(samples(&String::from_utf8_lossy(&self.read().await?), metric))
    }
}

/// The metrics page at `addr`.
#[must_use]
pub const fn metrics(addr: SocketAddr) -> Page {
    Page::new(addr, "/metrics")
}

/// Where process `pid` serves its metrics: the listener of its own that answers with `metric`. A replica's is not in the
/// status, because Prometheus finds it by other means.
pub async fn find(pid: u32, metric: &str) -> Option<Page> {
    for socket in sockets::of_process(pid).into_iter().filter(|socket| socket.state == State::Listen) {
        let mut page = metrics(socket.local);
        if page.samples(metric).await.is_ok_and(|samples| !samples.is_empty()) {
            return Some(page);
        }
    }
    None
}

/// Values of one metric, labels left out.
#[must_use]
pub fn samples(page: &str, name: &str) -> Vec<f64> {
    page.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labelled) => labelled.rsplit_once('}')?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.split_whitespace().next()?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_metric_are_found_with_and_without_labels() {
        let page = "# HELP a_total x\na_total{model=\"x} y\"} 3\na_total 4\na_total_more 5\nb 6\n";
        assert_eq!(samples(page, "a_total"), [3.0, 4.0]);
        assert_eq!(samples(page, "c"), [0.0; 0]);
    }
}
