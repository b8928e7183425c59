//! Where an admin port is.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[cfg(test)]
mod tests;

/// Longest path or name of a Unix socket: `sun_path` has 108 bytes, one of which is the NUL that ends or begins it.
pub const MAX_SOCKET_NAME_BYTES: usize = 107;

/// An address of the admin port: `IP:PORT`, `unix:/PATH`, or `unix:@NAME`.
///
/// The last is a socket of Linux's abstract namespace. It belongs to the network namespace, so in a pod it is the pod's own,
/// and it has no file: it needs nothing that can be written to and is gone with its process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AdminAddress {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Path(PathBuf),
    /// An abstract socket, without the `@`.
    Abstract(String),
}

/// Text that is no [`AdminAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither form.
    #[error("expected IP:PORT such as 127.0.0.1:8022, unix:/PATH or unix:@NAME, got '{0}'")]
    Form(String),
    /// A Unix socket's path or name has a bound.
    #[error("a Unix socket's path or name has 1 to {MAX_SOCKET_NAME_BYTES} bytes and no NUL, got '{0}'")]
    Name(String),
}

impl AdminAddress {
    /// What Unix sockets' calls take for it; `None` for TCP. An abstract name begins with NUL there.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp(_) => None,
            Self::Path(path) => Some(path.clone()),
            Self::Abstract(name) => Some(PathBuf::from(format!("\0{name}"))),
        }
    }

    /// Whether only this machine (in a pod: only the pod) can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Path(_) | Self::Abstract(_) => true,
        }
    }
}

impl From<SocketAddr> for AdminAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for AdminAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some(socket) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| AddressError::Form(text.to_owned()));
        };
        let name = socket.strip_prefix('@').unwrap_or(socket);
        if name.is_empty() || name.len() > MAX_SOCKET_NAME_BYTES || name.contains('\0') {
            return Err(AddressError::Name(text.to_owned()));
        }
        if name.len() < socket.len() {
            Ok(Self::Abstract(name.to_owned()))
        } else if Path::new(socket).is_absolute() {
            Ok(Self::Path(socket.into()))
        } else {
            Err(AddressError::Form(text.to_owned()))
        }
    }
}

/// As it is parsed.
impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Path(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}
