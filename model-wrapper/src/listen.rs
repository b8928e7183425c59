//! Listeners, and what is told of them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use axum::Router;
use model_wrapper_admin::AdminAddress;
use poolctl_runtime::{Shutdown, announce};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Connections that the kernel keeps for a thread that is busy; of one more it takes no notice, and who connects tries again
/// after a second.
const BACKLOG: u32 = 4096;

/// Listens for predictions or metrics.
///
/// # Errors
/// The address cannot be had; the message names the flag.
pub(crate) fn tcp(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("{flag} {address} cannot be listened on"))
}

/// The admin port's listener.
#[derive(Debug)]
pub(crate) enum AdminListener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, address: AdminAddress, _file: Option<SocketFile> },
}

/// A socket's file, removed with it.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl AdminListener {
    /// Listens on `address`. A socket's file that its owner left behind makes way, and only the same user may connect to the
    /// new one.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(crate) async fn bind(address: &AdminAddress) -> anyhow::Result<Self> {
        let path = match address {
            AdminAddress::Tcp(address) => return Ok(Self::Tcp(tcp("--admin", *address)?)),
            AdminAddress::Path(_) | AdminAddress::Abstract(_) => address.socket_path().unwrap_or_default(),
        };
        let bound = async {
            let file = match address {
                AdminAddress::Path(path) => Some(path),
                AdminAddress::Tcp(_) | AdminAddress::Abstract(_) => None,
            };
            if let Some(file) = file {
                clear(file).await?;
            }
            let listener = UnixListener::bind(&path)?;
            let file = file.map(|file| SocketFile(file.clone()));
            if let Some(SocketFile(path)) = &file {
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            }
            io::Result::Ok(Self::Unix { listener, address: address.clone(), _file: file })
        };
        bound.await.with_context(|| format!("--admin {address} cannot be listened on"))
    }

    /// Says on standard output where it is.
    pub(crate) fn announce(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => announce::line("admin", listener.local_addr()?),
            Self::Unix { address, .. } => announce::location("admin", address),
        }
    }

    /// Serves the admin port until `shutdown`.
    pub(crate) fn serve(self, router: Router, shutdown: Shutdown) -> JoinHandle<()> {
        match self {
            Self::Tcp(listener) => tokio::spawn(poolctl_runtime::admin::serve(listener, router, shutdown)),
            Self::Unix { listener, _file: file, .. } => tokio::spawn(async move {
                let _file = file;
                poolctl_runtime::admin::serve(listener, router, shutdown).await;
            }),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already; nothing else depends on it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes a socket's file that nobody listens on any more. Whatever else is there stays, and the bind fails on it.
async fn clear(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path) -> AdminAddress {
        AdminAddress::Path(path.to_owned())
    }

    #[tokio::test]
    async fn a_burst_of_connections_waits_in_the_kernel() {
        let listener = tcp("--listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let patience = std::time::Duration::from_secs(30);
        let burst = (0..300).map(|_| std::net::TcpStream::connect_timeout(&address, patience));
        assert_eq!(burst.collect::<Result<Vec<_>, _>>().unwrap().len(), 300);
        assert!(tcp("--listen", address).is_err(), "another may not listen there");
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_and_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = AdminListener::bind(&at(&path)).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let taken = format!("{:#}", AdminListener::bind(&at(&path)).await.unwrap_err());
        assert!(taken.contains("--admin unix:/") && taken.contains("in use"), "{taken}");
        assert!(path.exists(), "a bind that failed must leave the owner's socket alone");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_dead_owner_left_makes_way_and_a_file_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        AdminListener::bind(&at(&path)).await.unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(AdminListener::bind(&at(&path)).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn an_abstract_socket_needs_no_file() {
        let address = AdminAddress::Abstract(format!("model-wrapper-test-{}", std::process::id()));
        let listener = AdminListener::bind(&address).await.unwrap();
        assert!(AdminListener::bind(&address).await.is_err());
        drop(listener);
        AdminListener::bind(&address).await.unwrap();
    }
}
