//! One command at a time changes a cluster.

use std::fs::{File, TryLockError};
use std::time::Duration;

use anyhow::Context as _;

use super::settings::Place;
use crate::process::Progress;

/// The lock file. It marks a folder as the state of a cluster, so it is never removed.
const FILE: &str = "cluster.lock";

/// How often a lock that another command holds is tried.
const RETRY: Duration = Duration::from_millis(100);

/// The right to change the cluster, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Waits until no other command changes the cluster.
///
/// # Errors
/// When the folder belongs to something else, or cannot be written.
pub(super) async fn lock(place: &Place, progress: &Progress) -> anyhow::Result<Lock> {
    let path = place.path(FILE);
    if !path.exists() {
        let mut entries = std::fs::read_dir(place.state()).context("cannot read the state folder")?;
        anyhow::ensure!(
            entries.next().is_none(),
            "{} has files that are no cluster's: give an empty folder, or one that does not exist yet, as --state",
            place.state().display()
        );
    }
    let file = File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let mut waiting = None;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                let step =
                    waiting.get_or_insert_with(|| progress.step(&format!("waiting for cluster {}", place.name())));
                step.note("another command starts or stops it");
                tokio::time::sleep(RETRY).await;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_of_somebody_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new("a", Some(folder.path())).unwrap();
        std::fs::write(folder.path().join("thesis.txt"), "").unwrap();
        let refused = lock(&place, &Progress::silent()).await.unwrap_err().to_string();
        assert!(refused.contains("no cluster's"), "{refused}");

        std::fs::remove_file(folder.path().join("thesis.txt")).unwrap();
        drop(lock(&place, &Progress::silent()).await.unwrap());
        std::fs::write(folder.path().join("kubeconfig"), "").unwrap();
        lock(&place, &Progress::silent()).await.expect("it is a cluster's by now");
    }

    #[tokio::test]
    async fn the_second_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new("a", Some(folder.path())).unwrap();
        let first = lock(&place, &Progress::silent()).await.unwrap();
        let progress = Progress::silent();
        let mut second = Box::pin(lock(&place, &progress));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        second.await.unwrap();
    }
}
