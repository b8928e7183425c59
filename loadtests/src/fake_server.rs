//! A server for tests of the generators: it answers at once until it is told to stall.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Answers requests without a body with 200, one at a time on each connection; while the gate is shut it answers nobody.
pub(crate) struct FakeServer {
    pub(crate) addr: SocketAddr,
    gate: Arc<watch::Sender<bool>>,
    accepted: Arc<AtomicUsize>,
    asked: watch::Receiver<usize>,
}

/// How long requests may take to arrive, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

impl FakeServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let gate = Arc::new(watch::Sender::new(true));
        let opened = gate.subscribe();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let (arrived, asked) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, opened.clone(), arrived.clone()));
            }
        });
        Self { addr, gate, accepted, asked }
    }

    /// Waits until so many requests have arrived.
    pub(crate) async fn asked(&self, requests: usize) {
        let mut asked = self.asked.clone();
        tokio::time::timeout(PATIENCE, asked.wait_for(|count| *count >= requests)).await.unwrap().unwrap();
    }

    /// Connections that it took.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn stall(&self) {
        self.gate.send_replace(false);
    }

    pub(crate) fn resume(&self) {
        self.gate.send_replace(true);
    }
}

async fn serve(mut stream: TcpStream, mut opened: watch::Receiver<bool>, arrived: watch::Sender<usize>) {
    let mut request = Vec::new();
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut request).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        request.clear();
        arrived.send_modify(|count| *count += 1);
        if opened.wait_for(|open| *open).await.is_err() {
            return;
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}
