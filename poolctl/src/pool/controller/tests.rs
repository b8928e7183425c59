//! The controller on real processes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use gateway_policy::Device;
use poolctl_cluster::{LocalCluster, LocalSettings};

use super::*;
use crate::pool::placement::Sizing;

fn spec(size: u32) -> PoolSpec {
    PoolSpec {
        key: PoolKey { namespace: "default".to_owned(), name: "default".to_owned() },
        device: Device::Cpu,
        service_account: "default".to_owned(),
        resources: BTreeMap::new(),
        sizing: Sizing::exactly(size),
    }
}

#[tokio::test]
async fn a_program_that_always_fails_is_not_started_in_a_hot_loop() {
    let registry = Registry::new();
    let settings = LocalSettings::new(PathBuf::from("/bin/false"), "no-key".to_owned());
    let cluster = LocalCluster::new(settings, &registry).unwrap();
    let pacing = Pacing { backoff: Duration::from_millis(100), ..Pacing::default() };
    let controller = PoolController::new(cluster.clone(), vec![spec(2)], pacing, &registry).unwrap();
    let shutdown = Shutdown::new();
    let running = tokio::spawn({
        let (controller, shutdown) = (controller.clone(), shutdown.clone());
        async move { controller.run(shutdown).await }
    });

    let error = tokio::time::timeout(Duration::from_secs(60), controller.filled()).await.unwrap().unwrap_err();
    assert!(error.starts_with("replicas of pool default/default do not start: "), "{error}");
    let starts = |registry: &Registry| {
        let families = registry.gather();
        let actions = families.iter().find(|family| family.name() == "kferving_pool_actions_total").unwrap();
        let creates =
            actions.get_metric().iter().filter(|metric| metric.get_label().iter().any(|l| l.value() == "create"));
        creates.map(|metric| metric.get_counter().get_value()).sum::<f64>()
    };
    // each wait is twice the one before, so the time that passed bounds the attempts, however slow the machine is
    let (before, at) = (starts(&registry), Instant::now());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let attempts = starts(&registry) - before;
    let possible = (at.elapsed().as_secs_f64() / 0.1).log2().ceil() + 1.0;
    assert!(attempts <= possible, "{attempts} starts in {:?}", at.elapsed());
    assert_eq!(controller.status()[0].counts.idle, 0);

    shutdown.request();
    running.await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_device_that_is_not_there_is_a_reason() {
    let registry = Registry::new();
    let mut settings = LocalSettings::new(PathBuf::from("/bin/false"), "no-key".to_owned());
    settings.devices = BTreeSet::new();
    let cluster = LocalCluster::new(settings, &registry).unwrap();
    let pacing = Pacing { backoff: Duration::from_millis(1), ..Pacing::default() };
    let controller = PoolController::new(cluster, vec![spec(1)], pacing, &registry).unwrap();
    let shutdown = Shutdown::new();
    let running = tokio::spawn({
        let (controller, shutdown) = (controller.clone(), shutdown.clone());
        async move { controller.run(shutdown).await }
    });
    let error = tokio::time::timeout(Duration::from_secs(60), controller.filled()).await.unwrap().unwrap_err();
    assert!(error.contains("this machine has no device \"cpu\""), "{error}");
    shutdown.request();
    running.await.unwrap();
}
