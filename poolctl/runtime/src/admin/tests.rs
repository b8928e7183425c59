use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::routing::post;
use prometheus::IntCounter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::*;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const GET: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(arrival: Duration, router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
        let task = tokio::spawn(serve_with(arrival, listener, router, shutdown.clone()));
        Self { address, shutdown, task }
    }

    async fn health(arrival: Duration) -> Self {
        Self::start(arrival, router(Registry::new())).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn sent(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn stop(self) {
        self.shutdown.request();
        soon(self.task).await.unwrap();
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes for ever")
}

/// The status line's code of the next answer.
async fn status(stream: &mut TcpStream) -> String {
    let mut answer = [0; 12];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

/// What comes until the other side closes.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // a reset says the same as an end
    let _ = soon(stream.read_to_end(&mut rest)).await;
    rest
}

#[tokio::test]
async fn metrics_are_served_until_shutdown() {
    let registry = Registry::new();
    let counter = IntCounter::new("kferving_test_total", "A test counter.").unwrap();
    registry.register(Box::new(counter.clone())).unwrap();
    counter.inc();
    let server = Server::start(ARRIVAL, router(registry)).await;
    let mut stream = server.sent(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let answer = String::from_utf8(rest(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("kferving_test_total 1"), "{answer}");

    let address = server.address;
    server.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_unix_socket_is_served_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let shutdown = Shutdown::new();
    let listener = UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(serve(listener, router(Registry::new()), shutdown.clone()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let mut answer = [0; 12];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    shutdown.request();
    soon(task).await.unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_arrive_ends_its_connection() {
    let echo = Router::new().route("/", post(|body: Bytes| async { body }));
    let server = Server::start(Duration::from_millis(50), router(Registry::new()).merge(echo)).await;
    for begun in [
        // of a route that takes no body
        "GET /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n1234",
        "GET / HTTP/1.1\r\nhost: a\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n1234",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\n1234\r\n",
    ] {
        let mut stream = server.sent(begun.as_bytes()).await;
        assert_eq!(rest(&mut stream).await, b"", "{begun}");
    }
    // the second on a connection
    let mut stream = server.sent(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(status(&mut stream).await, "200");
    stream.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
    rest(&mut stream).await;
    server.stop().await;
}

#[tokio::test]
async fn silence_and_a_long_answer_are_no_offence() {
    let arrival = Duration::from_millis(300);
    let slow = move |body: Bytes| async move {
        tokio::time::sleep(arrival * 2).await;
        body
    };
    let server = Server::start(arrival, Router::new().route("/", post(slow))).await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        tokio::time::sleep(arrival * 2).await;
        stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        assert_eq!(status(&mut stream).await, "200");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            answer.push(soon(stream.read_u8()).await.unwrap());
        }
    }
    server.stop().await;
}

/// A route whose answers wait.
#[derive(Clone)]
struct Drain {
    begun: Arc<AtomicUsize>,
    may_end: Arc<Semaphore>,
}

impl Drain {
    const GET: &[u8] = b"GET /drain HTTP/1.1\r\nhost: a\r\n\r\n";

    fn new() -> Self {
        Self { begun: Arc::default(), may_end: Arc::new(Semaphore::new(0)) }
    }

    fn router(&self) -> Router {
        let drain = self.clone();
        let handler = move || async move {
            drain.begun.fetch_add(1, Ordering::Relaxed);
            let _may = drain.may_end.acquire().await;
        };
        Router::new().route("/drain", get(handler))
    }

    async fn has_begun(&self, times: usize) {
        let all = async {
            while self.begun.load(Ordering::Relaxed) < times {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon(all).await;
    }
}

#[tokio::test]
async fn who_holds_many_connections_holds_nobody_else_off() {
    let drain = Drain::new();
    let server = Server::start(PATIENCE, router(Registry::new()).merge(drain.router())).await;
    let mut long = server.sent(Drain::GET).await;
    drain.has_begun(1).await;
    let mut greedy = Vec::new();
    for index in 0..3 * MAX_CONNECTIONS {
        greedy.push(match index % 3 {
            0 => server.connect().await,
            1 => server.sent(b"GET /metrics HTTP/1.1\r\n").await,
            _ => server.sent(GET).await,
        });
    }
    let mut other = server.sent(GET).await;
    assert_eq!(status(&mut other).await, "200");
    // the oldest made room, the one whose answer is being made did not
    assert_eq!(rest(&mut greedy[0]).await, b"");
    drain.may_end.add_permits(1);
    assert_eq!(status(&mut long).await, "200");
    server.stop().await;
}

#[tokio::test]
async fn connections_that_are_all_being_answered_are_left_alone() {
    let drain = Drain::new();
    let server = Server::start(PATIENCE, drain.router()).await;
    let mut long = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        long.push(server.sent(Drain::GET).await);
    }
    drain.has_begun(MAX_CONNECTIONS).await;
    assert_eq!(rest(&mut server.connect().await).await, b"");
    drain.may_end.add_permits(MAX_CONNECTIONS);
    for stream in &mut long {
        assert_eq!(status(stream).await, "200");
    }
    server.stop().await;
}

#[tokio::test]
async fn nobody_keeps_a_server_that_stops() {
    let never = Router::new().route("/", get(std::future::pending::<()>));
    let long = Router::new().route("/long", get(|| async { vec![b'a'; 64 << 20] }));
    let server = Server::start(PATIENCE, never.merge(long)).await;
    let silent = server.connect().await;
    let begun = server.sent(b"GET /metrics HTTP/1.1\r\n").await;
    let waits = server.sent(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut takes_nothing = server.sent(b"GET /long HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(status(&mut takes_nothing).await, "200");
    server.stop().await;
    drop((silent, begun, waits, takes_nothing));
}

#[tokio::test]
async fn a_head_has_a_bound() {
    let server = Server::health(ARRIVAL).await;
    let mut stream = server.sent(b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: ").await;
    // it may be told off before it has sent all
    let _ = stream.write_all(&vec![b'a'; 2 * (16 << 10)]).await;
    assert_eq!(status(&mut stream).await, "431");
    server.stop().await;
}

#[tokio::test]
async fn a_body_has_a_bound() {
    let echo = Router::new().route("/", post(|body: Bytes| async move { body.len().to_string() }));
    let server = Server::start(ARRIVAL, router(Registry::new()).merge(echo)).await;
    for (request, bytes, expected, words) in [
        ("POST / HTTP/1.1\r\n", 32 << 10, "200", "32768"),
        ("POST / HTTP/1.1\r\n", (32 << 10) + 1, "413", r#"{"error": "the body is too large"#),
        ("GET /healthz HTTP/1.1\r\n", (32 << 10) + 1, "413", r#"{"error": "the body is too large"#),
    ] {
        let head = format!("{request}host: a\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n");
        let mut stream = server.sent(&[head.as_bytes(), &vec![b'a'; bytes]].concat()).await;
        assert_eq!(status(&mut stream).await, expected, "{request}");
        let answer = String::from_utf8(rest(&mut stream).await).unwrap();
        assert!(answer.contains(words), "{request}: {answer}");
    }
    let mut stream = server.sent(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nx\r\n").await;
    assert_eq!(status(&mut stream).await, "400");
    server.stop().await;
}
