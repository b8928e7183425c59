//! What runs inside the namespaces: process 1, and the supervisor that starts the cluster's components.

mod dns;
mod import;
pub(crate) mod init;
mod mounts;
mod network;
mod relay;
pub(super) mod rig;
mod server;
pub(crate) mod supervisor;
mod watch;
