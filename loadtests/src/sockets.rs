//! TCP sockets of a process, as Linux lists them.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// States of a socket that matter here, by their number in /proc/net/tcp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The other side has closed and this one has not: a leak, if it stays.
    CloseWait,
    /// Waits for connections.
    Listen,
    /// Any other.
    Other,
}

/// One IPv4 socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Where it is bound.
    pub local: SocketAddr,
    /// Its state.
    pub state: State,
    inode: u64,
}

/// IPv4 TCP sockets that `pid` has open. A process that is gone has none.
#[must_use]
pub fn of_process(pid: u32) -> Vec<Socket> {
    let open: HashSet<u64> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| inode(&fs::read_link(entry.path()).ok()?.to_string_lossy()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    table.lines().skip(1).filter_map(parse).filter(|socket| open.contains(&socket.inode)).collect()
}

/// `socket:[12345]`
fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`; addresses are hexadecimal, the bytes of
/// an IPv4 address in the machine's order.
fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
    let local = SocketAddrV4::new(ip, u16::from_str_radix(port, 16).ok()?).into();
    let state = match fields.nth(1)? {
        "08" => State::CloseWait,
        "0A" => State::Listen,
        _ => State::Other,
    };
    Some(Socket { local, state, inode: fields.nth(5)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_socket_whose_peer_has_closed_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let client = TcpStream::connect(local).unwrap();
        let (server, _) = listener.accept().unwrap();
        let state_of = |addr| {
            of_process(std::process::id()).into_iter().filter(|s| s.local == addr).map(|s| s.state).collect::<Vec<_>>()
        };
        let addr = client.local_addr().unwrap();
        assert_eq!(state_of(addr), [State::Other]);
        assert!(state_of(local).contains(&State::Listen));
        drop(server);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while state_of(addr) != [State::CloseWait] && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(state_of(addr), [State::CloseWait]);
        drop(client);
        assert_eq!(state_of(addr), []);
    }
}
