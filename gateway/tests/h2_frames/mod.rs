//! HTTP/2 frames by hand (RFC 9113, RFC 7541), for what no honest client sends.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::support::PATIENCE;

pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
const ACK: u8 = 0x1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// HPACK's reference to the newest entry of the dynamic table: the static one has 61.
pub const FIRST_DYNAMIC_ENTRY: u8 = 0x80 | 62;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags, stream, block)
}

pub fn continuation(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(CONTINUATION, flags, stream, block)
}

pub fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

/// RST_STREAM with CANCEL.
pub fn reset(stream: u32) -> Vec<u8> {
    reset_with(stream, 8)
}

pub fn reset_with(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// GOAWAY: streams after `last` were not processed.
pub fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

pub fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"12345678")
}

/// Lets the gateway send so many bytes more on this stream.
pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        values.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// Literal fields that are not indexed.
pub fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(0x00, name, value)).collect()
}

/// A literal field that the receiver keeps in its dynamic table.
pub fn indexed_header(name: &str, value: &str) -> Vec<u8> {
    literal(0x40, name, value)
}

fn literal(kind: u8, name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![kind];
    for text in [name, value] {
        // A length of 127 and more takes further bytes, which no test here needs.
        field.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap());
        field.extend(text.bytes());
    }
    field
}

/// What a gateway said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A response's head; of the statuses, those in HPACK's static table are told apart.
    Status(u16),
    Data,
    Reset,
    PingAck,
    GoAway,
    Closed,
}

/// A client that does as it likes.
pub struct H2Attacker {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    received: Vec<u8>,
}

impl H2Attacker {
    pub async fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, &[]).await
    }

    pub async fn connect_with(addr: SocketAddr, values: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (read, write) = stream.into_split();
        let mut attacker = Self { read, write, received: Vec::new() };
        attacker.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        attacker.send(&settings(values)).await;
        attacker.send(&frame(SETTINGS, ACK, 0, &[])).await;
        attacker
    }

    /// Sends as much as the gateway takes before it closes.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = tokio::time::timeout(PATIENCE, self.write.write_all(bytes)).await.expect("the gateway reads or closes");
    }

    /// Sends while reading what comes back, so that neither side waits for the other.
    pub async fn flood(&mut self, bytes: &[u8]) {
        let mut sink = vec![0; 64 << 10];
        let (read, write) = (&mut self.read, &mut self.write);
        let sending = async {
            // A gateway that closes ends the flood.
            let _ = write.write_all(bytes).await;
        };
        let reading = async { while read.read(&mut sink).await.is_ok_and(|count| count > 0) {} };
        let flood = async {
            tokio::select! {
                () = sending => {}
                () = reading => {}
            }
        };
        tokio::time::timeout(PATIENCE, flood).await.expect("the gateway reads or closes");
    }

    pub async fn heard_until_closed(&mut self) -> Vec<Heard> {
        self.heard_until(&[Heard::Closed]).await
    }

    /// Everything up to the first of `ends`.
    pub async fn heard_until(&mut self, ends: &[Heard]) -> Vec<Heard> {
        let listening = async {
            let mut all = Vec::new();
            loop {
                let heard = self.next().await;
                all.extend(heard);
                if heard.is_some_and(|heard| ends.contains(&heard) || heard == Heard::Closed) {
                    return all;
                }
            }
        };
        tokio::time::timeout(PATIENCE, listening).await.unwrap_or_else(|_| panic!("never heard any of {ends:?}"))
    }

    /// The next frame, if it is one of interest.
    async fn next(&mut self) -> Option<Heard> {
        while self.received.len() < 9 || self.received.len() < 9 + self.length() {
            let mut bytes = [0; 16 << 10];
            match self.read.read(&mut bytes).await {
                Ok(count) if count > 0 => self.received.extend_from_slice(&bytes[..count]),
                _ => return Some(Heard::Closed),
            }
        }
        let rest = self.received.split_off(9 + self.length());
        let frame = std::mem::replace(&mut self.received, rest);
        match frame[3] {
            HEADERS => Some(Heard::Status(status(&frame[9..]))),
            DATA => Some(Heard::Data),
            RST_STREAM => Some(Heard::Reset),
            PING if frame[4] & ACK != 0 => Some(Heard::PingAck),
            GOAWAY => Some(Heard::GoAway),
            _ => None,
        }
    }

    fn length(&self) -> usize {
        self.received[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    }
}

/// The status of a response: its first field. 0 for one that is not in the static table.
fn status(block: &[u8]) -> u16 {
    let index = block.first().map_or(0, |byte| byte & 0x7f);
    [200, 204, 206, 304, 400, 404, 500].get(usize::from(index).wrapping_sub(8)).copied().unwrap_or(0)
}
