//! Between the `up` that starts a cluster and its supervisor: the cluster lives on its own only after both said so.

use std::io::ErrorKind;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::control::LONGEST_LINE;

/// What `up` sends when the cluster is to stay.
const KEEP: u8 = b'k';

/// What the supervisor reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Report {
    /// The cluster is usable.
    Ready,
    /// It could not be started.
    Failed(String),
}

/// Reports to `up`.
pub(super) async fn report(up: &mut UnixStream, report: &Report) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    up.write_all(&line).await.context("the command that starts the cluster has ended")
}

/// Returns once `up` says that the cluster is to stay.
///
/// # Errors
/// When `up` ended without that.
pub(super) async fn kept(up: &mut UnixStream) -> anyhow::Result<()> {
    match up.read_u8().await {
        Ok(KEEP) => Ok(()),
        Ok(other) => anyhow::bail!("the command that starts the cluster sent {other:#x}"),
        Err(_) => anyhow::bail!("the command that starts the cluster has ended before it was ready"),
    }
}

/// What the supervisor reports; `None` when it ended without a word.
pub(super) async fn reported(inside: &mut UnixStream) -> anyhow::Result<Option<Report>> {
    let mut line = String::new();
    match BufReader::new(inside.take(LONGEST_LINE)).read_line(&mut line).await {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(serde_json::from_str(&line).with_context(|| format!("the supervisor reports {line:?}"))?)),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error).context("cannot hear the supervisor"),
    }
}

/// Says that the cluster is to stay.
pub(super) async fn keep(inside: &mut UnixStream) -> anyhow::Result<()> {
    inside.write_u8(KEEP).await.context("the supervisor has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_sides_agree() {
        let (mut up, mut inside) = UnixStream::pair().unwrap();
        report(&mut inside, &Report::Failed("etcd ended:\n  no space left".into())).await.unwrap();
        assert_eq!(reported(&mut up).await.unwrap(), Some(Report::Failed("etcd ended:\n  no space left".into())));
        keep(&mut up).await.unwrap();
        kept(&mut inside).await.unwrap();
        drop(inside);
        assert_eq!(reported(&mut up).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_up_that_ends_keeps_nothing() {
        let (up, mut inside) = UnixStream::pair().unwrap();
        drop(up);
        kept(&mut inside).await.unwrap_err();
    }
}
