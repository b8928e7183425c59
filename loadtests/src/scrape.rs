//! Metrics in the Prometheus text format.

use std::net::SocketAddr;

use anyhow::bail;

use crate::http1::{self, Connection, Keep};
use crate::sockets::{self, State};

/// The metrics page at `addr`.
///
/// # Errors
/// It does not answer with one.
pub async fn page(addr: SocketAddr) -> anyhow::Result<String> {
    let request = http1::get(&addr.to_string(), "/metrics");
    let answer = Connection::open(addr).await?.exchange(&request, Keep::Body).await?;
    if answer.status != 200 {
        bail!("http://{addr}/metrics answered {}", answer.status);
    }
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// Where process `pid` serves its metrics: the listener of its own that answers with `metric`. A replica's is not in the
/// status, because Prometheus finds it by other means.
pub async fn find(pid: u32, metric: &str) -> Option<SocketAddr> {
    for socket in sockets::of_process(pid).into_iter().filter(|socket| socket.state == State::Listen) {
        if page(socket.local).await.is_ok_and(|page| !samples(&page, metric).is_empty()) {
            return Some(socket.local);
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
