//! What must not be left over once the load has ended.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::proc_stats;
use crate::report::Verdict;
use crate::scrape;
use crate::sockets::{self, State};
use crate::stack::Stack;

/// How long leftovers may take to go: reaping, a keep-alive connection that notices its end, a scrape.
const PATIENCE: Duration = Duration::from_secs(20);

/// Gauges of the gateway that are 0 when nobody asks anything.
const GAUGES: [&str; 3] =
    ["kferving_gateway_held_requests", "kferving_gateway_in_flight_requests", "kferving_gateway_connections"];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Leaks {
    /// Children of the stack that its status does not know, or that ended and were not waited for.
    strange_children: BTreeSet<u32>,
    /// Sockets of the stack whose other side is gone.
    dead_sockets: usize,
    /// Gauges that are not 0, and those that are missing, as NaN.
    gauges: Vec<(&'static str, f64)>,
}

/// Looks until nothing is left over, or until patience is.
pub(super) async fn look(stack: &Stack) -> anyhow::Result<Leaks> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leaks = look_once(stack).await?;
        if leaks == Leaks::default() || Instant::now() > deadline {
            return Ok(leaks);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn look_once(stack: &Stack) -> anyhow::Result<Leaks> {
    let known: BTreeSet<u32> = stack.status().await?.replicas().iter().filter_map(|replica| replica.pid).collect();
    let children = proc_stats::descendants(stack.pid());
    let strange = children.into_iter().filter(|pid| !known.contains(pid) || proc_stats::has_ended(*pid));
    let page = scrape::metrics(stack.metrics).read().await?;
    Ok(Leaks {
        strange_children: strange.collect(),
        dead_sockets: sockets::of_process(stack.pid()).iter().filter(|socket| socket.state == State::CloseWait).count(),
        gauges: nonzero(&String::from_utf8_lossy(&page)),
    })
}

fn nonzero(page: &str) -> Vec<(&'static str, f64)> {
    let value = |name: &'static str| {
        let samples = scrape::samples(page, name);
        if samples.is_empty() { f64::NAN } else { samples.iter().sum() }
    };
    GAUGES.into_iter().map(|name| (name, value(name))).filter(|(_, value)| *value != 0.0).collect()
}

impl Leaks {
    pub(super) fn verdicts(&self) -> [Verdict; 3] {
        [
            Verdict::promise(
                "no process is left over",
                self.strange_children.is_empty().into(),
                match &self.strange_children {
                    none if none.is_empty() => {
                        "none that the status does not know or that was not waited for".to_owned()
                    }
                    some => format!("unknown to the status or not waited for: {some:?}"),
                },
            ),
            Verdict::promise(
                "no socket is left over",
                (self.dead_sockets == 0).into(),
                format!("{} whose other side is gone", self.dead_sockets),
            ),
            Verdict::promise(
                "gauges are back to 0",
                self.gauges.is_empty().into(),
                if self.gauges.is_empty() { GAUGES.join(", ") } else { format!("{:?}", self.gauges) },
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "kferving_gateway_held_requests{model=\"a\"} 0\nkferving_gateway_held_requests{model=\"b\"} 0\n\
        kferving_gateway_in_flight_requests{model=\"a\"} 0\nkferving_gateway_connections 0\n";

    #[test]
    fn gauges_at_zero_are_fine_and_missing_ones_are_not() {
        assert_eq!(nonzero(CLEAN), []);
        assert_eq!(nonzero(&CLEAN.replace("connections 0", "connections 2")), [("kferving_gateway_connections", 2.0)]);
        assert_eq!(nonzero("").len(), 3);
    }

    #[test]
    fn each_leftover_breaks_its_promise() {
        let held = |leaks: Leaks| leaks.verdicts().map(|verdict| verdict.is_held());
        assert_eq!(held(Leaks::default()), [true; 3]);
        assert_eq!(held(Leaks { strange_children: BTreeSet::from([7]), ..Leaks::default() }), [false, true, true]);
        assert_eq!(held(Leaks { dead_sockets: 1, ..Leaks::default() }), [true, false, true]);
        assert_eq!(held(Leaks { gauges: vec![(GAUGES[0], 1.0)], ..Leaks::default() }), [true, true, false]);
    }
}
