//! The closed loop in its steady state: many short measurements on connections that stay open.
//!
//! On a machine whose speed wanders from second to second, two servers are compared by turning from one to the other often. A
//! short measurement would be spoiled by its ends, where connections are idle: so it begins and ends with an answer, while
//! all the other connections wait for theirs.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::closed_loop::{self, ClosedLoop, Ended};
use crate::http1::Connection;
use crate::proc_stats::{self, Usage};
use crate::record::Recorder;

/// A load that can be turned on for a while. Its thread and connections end with it.
#[derive(Debug)]
pub struct SteadyLoop {
    asks: mpsc::Sender<Ask>,
}

/// What was seen from one answer to another.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Latency and errors.
    pub recorder: Recorder,
    /// From the one to the other.
    pub elapsed: Duration,
    /// Processor time of the server meanwhile.
    pub cpu: Duration,
    /// Its memory in the end.
    pub rss_bytes: u64,
}

struct Ask {
    length: Duration,
    answer: oneshot::Sender<anyhow::Result<Measured>>,
}

/// What is counted of the requests that end.
#[derive(Debug)]
struct Window {
    length: Duration,
    /// Requests that end before it opens.
    before: usize,
    recorder: Recorder,
    opened: Option<Edge>,
    closed: Option<Edge>,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    at: Instant,
    usage: Usage,
}

impl SteadyLoop {
    /// Opens the connections. `pid` is the server, whose processor time is taken, that of its present children included.
    ///
    /// # Errors
    /// The thread could not be started or pinned, or a connection could not be opened.
    pub async fn open(load: ClosedLoop, pid: u32) -> anyhow::Result<Self> {
        let (asks, asked) = mpsc::channel(1);
        let (open, opened) = oneshot::channel();
        tokio::spawn(closed_loop::on_a_thread(load.core, move || async move {
            let (connections, outcome) = match load.open().await {
                Ok(connections) => (connections, Ok(())),
                Err(error) => (Vec::new(), Err(error)),
            };
            // Whoever asked may not wait any more: then no measurement is asked for either.
            let _ = open.send(outcome);
            serve(&load, pid, connections, asked).await;
            Ok(())
        }));
        opened.await.context("the load thread did not start")??;
        Ok(Self { asks })
    }

    /// Loads the server, and measures for `length` once so many requests have ended as there are connections.
    ///
    /// # Errors
    /// The process of the server is gone.
    pub async fn measure(&self, length: Duration) -> anyhow::Result<Measured> {
        let (answer, measured) = oneshot::channel();
        // Where the thread has ended, nobody answers.
        let _ = self.asks.send(Ask { length, answer }).await;
        measured.await.context("the load thread has ended")?
    }
}

async fn serve(load: &ClosedLoop, pid: u32, connections: Vec<Connection>, mut asked: mpsc::Receiver<Ask>) {
    let children = proc_stats::descendants(pid);
    let mut connections: Vec<_> = connections.into_iter().map(Some).collect();
    while let Some(Ask { length, answer }) = asked.recv().await {
        let measured = measure(load, pid, &children, &mut connections, length).await;
        // The scenario may have been given up.
        let _ = answer.send(measured);
    }
}

async fn measure(
    load: &ClosedLoop,
    pid: u32,
    children: &[u32],
    connections: &mut Vec<Option<Connection>>,
    length: Duration,
) -> anyhow::Result<Measured> {
    let window = Arc::new(Mutex::new(Window::new(length, load.concurrency)));
    let mut loops = JoinSet::new();
    for mut connection in connections.drain(..) {
        let (load, window, children) = (load.clone(), Arc::clone(&window), children.to_owned());
        loops.spawn(async move {
            loop {
                let ended = closed_loop::ask(&mut connection, load.addr, &load.request).await;
                let look = || proc_stats::usage_with(pid, &children);
                if window.lock().count(&ended, Instant::now(), look)?.is_break() {
                    return anyhow::Ok(connection);
                }
            }
        });
    }
    while let Some(one) = loops.join_next().await {
        connections.push(one.context("a connection's task panicked")??);
    }
    let window = Arc::into_inner(window).context("a connection's task is left")?.into_inner();
    window.measured().context("no connection saw the end")
}

impl Window {
    fn new(length: Duration, before: usize) -> Self {
        Self { length, before, recorder: Recorder::default(), opened: None, closed: None }
    }

    /// A request ended at `now`. `look` is called at the edges. Breaks once there is nothing more to count.
    fn count(
        &mut self,
        ended: &Ended,
        now: Instant,
        look: impl FnOnce() -> anyhow::Result<Usage>,
    ) -> anyhow::Result<ControlFlow<()>> {
        if self.closed.is_some() {
            return Ok(ControlFlow::Break(()));
        }
        match self.opened {
            None if self.before > 1 => self.before -= 1,
            None => self.opened = Some(Edge { at: now, usage: look()? }),
            Some(opened) => {
                ended.record(&mut self.recorder);
                if now.saturating_duration_since(opened.at) >= self.length {
                    self.closed = Some(Edge { at: now, usage: look()? });
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn measured(self) -> Option<Measured> {
        let (opened, closed) = (self.opened?, self.closed?);
        Some(Measured {
            recorder: self.recorder,
            elapsed: closed.at - opened.at,
            cpu: closed.usage.cpu.saturating_sub(opened.usage.cpu),
            rss_bytes: closed.usage.rss_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_server::FakeServer;
    use crate::http1;

    fn usage(seconds: u64) -> anyhow::Result<Usage> {
        Ok(Usage { cpu: Duration::from_secs(seconds), rss_bytes: 7 })
    }

    #[test]
    fn it_is_counted_from_one_answer_to_another() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window::new(Duration::from_secs(10), 2);
        let answered = Ended::Answered(Duration::from_secs(1));
        for second in [1, 3, 4, 9] {
            assert!(window.count(&answered, at(second), || usage(second)).unwrap().is_continue());
        }
        assert!(window.count(&Ended::Failed("503".to_owned()), at(15), || usage(11)).unwrap().is_break());
        assert!(window.count(&answered, at(16), || usage(12)).unwrap().is_break());
        let measured = window.measured().unwrap();
        assert_eq!((measured.elapsed, measured.cpu), (Duration::from_secs(12), Duration::from_secs(8)));
        assert_eq!((measured.recorder.latency.count(), measured.recorder.errors["503"]), (2, 1));
    }

    #[tokio::test]
    async fn measurements_share_their_connections() {
        let server = FakeServer::start().await;
        let (addr, request) = (server.addr, http1::get("h", "/"));
        let load = ClosedLoop { addr, request, concurrency: 4, core: None };
        let load = SteadyLoop::open(load, std::process::id()).await.unwrap();
        for _ in 0..3 {
            let measured = load.measure(Duration::from_millis(50)).await.unwrap();
            assert!(measured.recorder.errors.is_empty(), "{:?}", measured.recorder.errors);
            assert!(measured.recorder.latency.count() > 0 && measured.elapsed >= Duration::from_millis(50));
        }
        assert_eq!(server.connections(), 4);
    }

    #[tokio::test]
    async fn nobody_listening_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let load = ClosedLoop { addr, request: http1::get("h", "/"), concurrency: 1, core: None };
        let error = format!("{:#}", SteadyLoop::open(load, std::process::id()).await.unwrap_err());
        assert!(error.contains(&addr.to_string()), "{error}");
    }
}
