//! The demand service: gateways report what they hold and run, and are told of replicas.

mod gateways;
mod reports;
mod server;

pub(crate) use gateways::{Freshness, Gateways, Outbox, SessionId};
