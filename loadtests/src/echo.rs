//! The upstream of the gateway scenario: a server that costs much less than the proxies in front of it.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::{Buf, BytesMut};
use poolctl_runtime::{Shutdown, announce};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How much of a body comes back: an inference takes a large tensor and answers a small one.
const ECHOED_BYTES: usize = 1024;

/// Room for one read: a 600 KiB body in few system calls.
const READ_BYTES: usize = 256 * 1024;

/// Longest head that is read.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Most headers of a request; proxies add some.
const MAX_HEADERS: usize = 64;

/// A server that answers every request with the first KiB of its body
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where it listens; a port of 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
}

/// Serves until it is told to stop. Every connection is served on the calling thread.
///
/// # Errors
/// The address cannot be listened on.
pub async fn run(args: &Args, shutdown: &Shutdown) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    announce::line("ready", listener.local_addr()?)?;
    tokio::select! {
        () = shutdown.requested() => Ok(()),
        result = accept(&listener) => result,
    }
}

async fn accept(listener: &TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that leaves in the middle of a request is none of this server's business.
            let _ = serve(stream).await;
        });
    }
}

async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut answer = Vec::with_capacity(2 * ECHOED_BYTES);
    loop {
        let length = loop {
            if let Some((head, length)) = parse(&buffer)? {
                buffer.advance(head);
                break length;
            }
            anyhow::ensure!(buffer.len() <= MAX_HEAD_BYTES, "the head is too long");
            buffer.reserve(READ_BYTES);
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let echoed = length.min(ECHOED_BYTES);
        answer.clear();
        answer.extend_from_slice(
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {echoed}\r\n\r\n")
                .as_bytes(),
        );
        let mut left = length;
        while left > 0 {
            if buffer.is_empty() {
                buffer.reserve(READ_BYTES);
                anyhow::ensure!(stream.read_buf(&mut buffer).await? > 0, "the body is cut off");
            }
            let taken = buffer.len().min(left);
            let wanted = echoed.saturating_sub(length - left).min(taken);
            answer.extend_from_slice(&buffer[..wanted]);
            buffer.advance(taken);
            left -= taken;
        }
        stream.write_all(&answer).await?;
    }
}

/// Lengths of the head and of the body; `None` while the head is incomplete.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes)? else { return Ok(None) };
    let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = match length {
        Some(header) => std::str::from_utf8(header.value)?.parse()?,
        None => 0,
    };
    Ok(Some((head, length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{self, Connection, Keep};

    #[tokio::test]
    async fn the_beginning_of_each_body_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { accept(&listener).await });
        let mut connection = Connection::open(addr).await.unwrap();
        for length in [0, 5, 1024, 1025, 600 * 1024] {
            let body: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let request = http1::post("h", "/", &[], &body);
            let answer = connection.exchange(&request, Keep::Body).await.unwrap();
            assert!(answer.reusable);
            assert_eq!(answer.body[..], body[..length.min(1024)]);
        }
    }
}
