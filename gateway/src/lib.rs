//! The data plane: routes requests to models, scores replicas, holds requests while a model is cold, and accounts for all
//! of it.
//!
//! Deciding is `gateway-policy`; this crate moves bytes. A [`Gateway`] is told about models ([`Gateway::set_models`]),
//! learns of replicas from the autoscaler over the demand stream ([`Gateway::connect_demand`]) or from a configuration
//! file ([`config`]), and serves ([`Gateway::serve`]).

mod account;
mod attempt;
mod body;
mod caller;
mod catalogue;
pub mod config;
mod connection;
mod demand;
mod departures;
mod error;
mod explain;
mod extent;
mod gateway;
mod grpc;
mod hop_by_hop;
mod inbound;
mod inference;
mod listener;
mod metrics;
mod model;
mod model_route;
mod pace;
mod proxy;
mod reading;
#[cfg(test)]
mod readme;
mod relay;
mod replica;
mod respond;
mod route;
mod server_timing;
mod settings;
mod standstill;
mod strict_http;
mod table;
mod timer;
mod upload;
mod upstream;
mod verdict;

pub use demand::DemandTarget;
pub use explain::{DeviceExplanation, ModelExplanation, ModelSnapshot, ReplicaSnapshot};
pub use gateway::Gateway;
pub use gateway_policy::Device;
pub use listener::Listeners;
pub use metrics::REQUEST_DURATION;
pub use model_route::{ModelRoute, StaticReplica, Unavailable, VariantRoute};
pub use settings::{GatewaySettings, Limits};
