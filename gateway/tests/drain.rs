//! What clients see when the gateway stops: what they have sent is answered, and they are told to leave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestGateway, eventually, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const REQUEST: &[u8] = b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx";
const CLIENTS: usize = 100;

/// A replica that answers at once, and a gateway before it.
fn start() -> (FakeWrapper, TestGateway) {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 8)])]);
    (wrapper, gateway)
}

/// A connection of HTTP/1.1 whose client sees every byte.
struct RawClient {
    stream: TcpStream,
    read: Vec<u8>,
}

/// One answer to a [`RawClient`].
struct RawAnswer {
    status: u16,
    /// The connection ends with it, and it says so.
    last: bool,
}

impl RawClient {
    async fn connect(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(addr).await?, read: Vec::new() })
    }

    async fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(REQUEST).await
    }

    async fn answer(&mut self) -> io::Result<RawAnswer> {
        tokio::time::timeout(PATIENCE, self.read_answer()).await?
    }

    async fn read_answer(&mut self) -> io::Result<RawAnswer> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more().await?;
        };
        let head = String::from_utf8(self.read[..end].to_vec()).unwrap().to_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let length: usize = header("content-length").unwrap().parse().unwrap();
        while self.read.len() < end + length {
            self.read_more().await?;
        }
        self.read.drain(..end + length);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(RawAnswer { status, last: header("connection") == Some("close") })
    }

    async fn read_more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn assert_closed(&mut self) {
        let more = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.unwrap();
        assert_eq!(more.unwrap(), 0, "closed after the last answer");
    }
}

async fn stopped(gateway: TestGateway) {
    tokio::time::timeout(PATIENCE, gateway.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_on_a_kept_connection_is_answered_and_told_that_it_was_the_last() {
    let (_wrapper, gateway) = start();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = RawClient::connect(gateway.addr).await.unwrap();
        client.send().await.unwrap();
        assert!(!client.answer().await.unwrap().last);
        clients.push(client);
    }
    for client in &mut clients {
        client.send().await.unwrap();
    }
    gateway.shutdown.request();
    for client in &mut clients {
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, 200);
        // Those that were answered in the moment before were not told yet, and are told with their next request.
        if !answer.last {
            client.send().await.unwrap();
            assert!(client.answer().await.unwrap().last);
        }
        client.assert_closed().await;
    }
    stopped(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_on_connections_that_were_not_accepted_yet_are_answered() {
    for _ in 0..5 {
        let (_wrapper, gateway) = start();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = RawClient::connect(gateway.addr).await.unwrap();
            client.send().await.unwrap();
            clients.push(client);
        }
        gateway.shutdown.request();
        for client in &mut clients {
            assert_eq!(client.answer().await.unwrap().status, 200);
        }
        drop(clients);
        stopped(gateway).await;
    }
}

/// Sends request after request from [`CLIENTS`] clients, stops the gateway meanwhile, and sees that whatever was sent before
/// was answered.
async fn stop_under_load(new_connection_each: bool) {
    let (_wrapper, gateway) = start();
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (addr, answered) = (gateway.addr, Arc::clone(&answered));
        clients.spawn(async move {
            let mut connection: Option<RawClient> = None;
            loop {
                let mut client = match connection.take() {
                    Some(client) => client,
                    None => match RawClient::connect(addr).await {
                        Ok(client) => client,
                        // It listens no more.
                        Err(_) => return None,
                    },
                };
                let outcome = match client.send().await {
                    Ok(()) => {
                        let sent = Instant::now();
                        client.answer().await.map_err(|error| (sent, error))
                    }
                    // Closed before it was sent.
                    Err(_) => return None,
                };
                match outcome {
                    Ok(answer) => {
                        assert_eq!(answer.status, 200);
                        answered.fetch_add(1, Ordering::Relaxed);
                        if answer.last && !new_connection_each {
                            return None;
                        }
                        if !new_connection_each {
                            connection = Some(client);
                        }
                    }
                    Err(lost) => return Some(lost),
                }
            }
        });
    }
    eventually("all are busy", || answered.load(Ordering::Relaxed) >= 10 * CLIENTS).await;
    let stopped_at = Instant::now();
    gateway.shutdown.request();
    while let Some(lost) = clients.join_next().await {
        if let Some((sent, error)) = lost.unwrap() {
            assert!(sent > stopped_at, "sent {:?} before the stop: {error}", stopped_at - sent);
        }
    }
    stopped(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_keep_their_connection_lose_no_request() {
    stop_under_load(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_connect_anew_lose_no_request() {
    stop_under_load(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_http2_are_answered_before_their_connection_ends() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 8)])]);
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut answers = JoinSet::new();
    for _ in 0..50 {
        sender.ready().await.unwrap();
        let request = Request::post("http://x/v2/models/digits/infer").body(Full::<Bytes>::from("x")).unwrap();
        answers.spawn(sender.send_request(request));
    }
    let arrived = || gateway.metric("kferving_gateway_held_requests", &[]) as usize + wrapper.running();
    eventually("all have arrived", || arrived() == 50).await;
    gateway.shutdown.request();
    let addr = gateway.addr;
    eventually("no new connection is taken", || std::net::TcpStream::connect(addr).is_err()).await;
    wrapper.let_go(50);
    while let Some(answer) = answers.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status(), StatusCode::OK);
    }
    tokio::time::timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
    stopped(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_hold_up_the_stop() {
    let (_wrapper, gateway) = start();
    let mut kept = RawClient::connect(gateway.addr).await.unwrap();
    kept.send().await.unwrap();
    kept.answer().await.unwrap();
    let mut silent = RawClient::connect(gateway.addr).await.unwrap();
    let mut half = RawClient::connect(gateway.addr).await.unwrap();
    half.stream.write_all(&REQUEST[..20]).await.unwrap();
    eventually("all are accepted", || gateway.metric("kferving_gateway_connections", &[]) == 3.0).await;
    gateway.shutdown.request();
    kept.assert_closed().await;
    silent.assert_closed().await;
    // Bytes of it were read, so that it is closed without a reset.
    half.assert_closed().await;
    stopped(gateway).await;
}
