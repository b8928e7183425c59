//! Runs of a model that fail, by their inputs or by the device.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Failed runs without a result between them after which a device is held to be at fault: as many as failures eject a
/// replica ([`crate::EjectionPolicy`]).
const IN_A_ROW: u32 = 5;

/// The runs of a model on one device that failed since it last gave a result.
///
/// Of a run that failed nobody can tell whether its inputs or the device are to blame. So it takes nothing from a replica: a
/// caller who sends nothing but bad inputs must not have replicas ejected that serve others. Where a device gives no
/// result any more, each further failed run counts against the device's service times, so that requests go to another
/// device, if the model has one. One caller's bad inputs can bring that about only while nobody else has results there.
#[derive(Debug, Default)]
pub struct FailedRuns(AtomicU32);

impl FailedRuns {
    /// The device gave a result.
    pub fn record_result(&self) {
        // Reading first keeps the cache line shared between the threads while all is well.
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }

    /// A run failed. Whether the device is at fault, for all that is known.
    pub fn record_failed_run(&self) -> bool {
        self.0.fetch_add(1, Relaxed).saturating_add(1) >= IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_result_between_five_failed_runs_is_at_fault() {
        let runs = FailedRuns::default();
        assert_eq!([(); 6].map(|()| runs.record_failed_run()), [false, false, false, false, true, true]);
        runs.record_result();
        assert!(!runs.record_failed_run());
    }
}
