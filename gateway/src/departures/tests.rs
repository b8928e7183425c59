//! Over real sockets, on one thread, as in a serving thread.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Longer than any test takes, also on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than the kernel keeps for a receiver that does not read.
const FLOOD_BYTES: usize = 16 << 20;

fn sending() -> Arc<Departures> {
    let departures = Arc::new(Departures::default());
    tokio::spawn(Arc::clone(&departures).keep_sending());
    departures
}

/// A connection of which one end is in departures that somebody sends, or not.
async fn connection(departures: &Arc<Departures>) -> (Departing, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (Departing::new(client, Arc::clone(departures)), server)
}

/// A piece of a known sequence of bytes.
fn piece(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|position| (position % 251) as u8).collect()
}

/// Writes from `client` what `server` must read, in pieces of these lengths, each in two slices.
async fn check_in_pieces(mut client: Departing, mut server: TcpStream, lengths: &[usize]) {
    let total = lengths.iter().sum();
    let reading = tokio::spawn(async move {
        let mut arrived = Vec::new();
        server.read_to_end(&mut arrived).await.unwrap();
        arrived
    });
    let mut written = 0;
    for length in lengths {
        let mut rest = piece(written, *length);
        while !rest.is_empty() {
            let (head, body) = rest.split_at(rest.len() / 3);
            let count = client.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]).await.unwrap();
            rest.drain(..count);
        }
        written += length;
    }
    client.shutdown().await.unwrap();
    let arrived = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert!(arrived == piece(0, total), "{} of {total} bytes, or others", arrived.len());
}

#[tokio::test]
async fn pieces_of_every_length_arrive_in_order() {
    let lengths = [1, SMALL_BYTES, 5, SMALL_BYTES - 5, 1, SMALL_BYTES + 1, 7, 3 << 20, 2, 2, FLOOD_BYTES, SMALL_BYTES];
    for departures in [sending(), Arc::default()] {
        let (client, server) = connection(&departures).await;
        check_in_pieces(client, server, &lengths).await;
    }
}

#[tokio::test]
async fn a_small_write_leaves_when_the_other_tasks_have_run() {
    let (mut client, server) = connection(&sending()).await;
    tokio::task::yield_now().await;
    for _ in 0..2 {
        assert_eq!(client.write(b"small").await.unwrap(), 5);
    }
    client.flush().await.unwrap();
    assert!(client.has_sent_nothing(), "before its turn");
    let mut arrived = [0; 10];
    // The server's end is of this runtime too: to wait for it is to let the others run.
    let mut server = server;
    tokio::time::timeout(PATIENCE, server.read_exact(&mut arrived)).await.unwrap().unwrap();
    assert_eq!(&arrived, b"smallsmall");
    assert!(!client.has_sent_nothing());
}

#[tokio::test]
async fn a_dropped_connection_sends_nothing_more() {
    let (mut client, mut server) = connection(&sending()).await;
    tokio::task::yield_now().await;
    client.write_all(b"too late").await.unwrap();
    drop(client);
    let mut arrived = Vec::new();
    tokio::time::timeout(PATIENCE, server.read_to_end(&mut arrived)).await.unwrap().unwrap();
    assert_eq!(arrived, b"");
}

#[tokio::test]
async fn what_is_noted_can_be_sent_before_the_end() {
    let (mut client, mut server) = connection(&sending()).await;
    tokio::task::yield_now().await;
    client.write_all(b"just in time").await.unwrap();
    client.send_now();
    drop(client);
    let mut arrived = Vec::new();
    tokio::time::timeout(PATIENCE, server.read_to_end(&mut arrived)).await.unwrap().unwrap();
    assert_eq!(arrived, b"just in time");
}

/// Fills what the kernel keeps, so that a small write behind it is taken over and stays.
async fn clogged() -> (Departing, TcpStream, usize) {
    let (mut client, server) = connection(&sending()).await;
    tokio::task::yield_now().await;
    let large = piece(0, FLOOD_BYTES);
    let mut written = 0;
    poll_fn(|cx| {
        while let Poll::Ready(count) = client.poll_write_now(cx, &[IoSlice::new(&large[written..])]) {
            written += count.unwrap();
        }
        Poll::Ready(())
    })
    .await;
    assert!(written < FLOOD_BYTES, "the kernel takes all");
    client.write_all(&piece(written, 9)).await.unwrap();
    // The turn in which it is found that there is no room.
    tokio::task::yield_now().await;
    assert!(client.has_sent_nothing());
    (client, server, written + 9)
}

#[tokio::test]
async fn whoever_writes_behind_a_clogged_write_waits_for_it() {
    let (mut client, mut server, taken) = clogged().await;
    let writing = tokio::spawn(async move {
        client.write_all(&piece(taken, 9)).await.unwrap();
        client.shutdown().await.unwrap();
    });
    tokio::task::yield_now().await;
    assert!(!writing.is_finished());
    let mut arrived = Vec::new();
    tokio::time::timeout(PATIENCE, server.read_to_end(&mut arrived)).await.unwrap().unwrap();
    writing.await.unwrap();
    assert!(arrived == piece(0, taken + 9), "{} bytes", arrived.len());
}

#[tokio::test]
async fn a_clogged_write_can_be_waited_for() {
    let (client, mut server, taken) = clogged().await;
    let waiting = tokio::spawn(async move { client.all_sent().await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let mut arrived = Vec::new();
    tokio::time::timeout(PATIENCE, server.read_to_end(&mut arrived)).await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert!(arrived == piece(0, taken), "{} bytes", arrived.len());
}

#[tokio::test]
async fn a_clogged_connection_can_be_dropped() {
    let (client, mut server, taken) = clogged().await;
    drop(client);
    let mut arrived = Vec::new();
    tokio::time::timeout(PATIENCE, server.read_to_end(&mut arrived)).await.unwrap().unwrap();
    assert_eq!(arrived.len(), taken - 9, "what the kernel had");
}

#[tokio::test]
async fn a_write_that_fails_is_told_to_its_owner() {
    let (mut client, server) = connection(&sending()).await;
    tokio::task::yield_now().await;
    server.set_zero_linger().unwrap();
    drop(server);
    let told = async {
        loop {
            if let Err(error) = client.write_all(b"to nobody").await {
                return error.kind();
            }
            tokio::task::yield_now().await;
        }
    };
    let kind = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert!(matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{kind}");
    assert!(client.has_sent_nothing());
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), kind, "an end would look orderly");
}

#[test]
fn writes_without_company_are_sent_at_once_for_a_while() {
    let mut notes = Notes::default();
    for _ in 1..LONELY_TURNS {
        notes.learn(1);
    }
    notes.learn(2);
    for _ in 1..LONELY_TURNS {
        notes.learn(1);
        notes.learn(0);
    }
    assert_eq!(notes.at_once, 0, "company now and then");
    notes.learn(1);
    assert_eq!(notes.at_once, SENT_AT_ONCE);
    notes.at_once = 0;
    notes.learn(1);
    assert_eq!(notes.at_once, SENT_AT_ONCE, "one look is enough");
    notes.at_once = 0;
    notes.learn(2);
    notes.learn(1);
    assert_eq!(notes.at_once, 0, "company again");
}
