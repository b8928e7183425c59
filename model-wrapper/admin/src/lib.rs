//! The admin port of a model wrapper: its messages, its signed tokens and its client.
//!
//! The autoscaler specializes and drains replicas through it, on a cluster and on one machine alike; the wrapper serves it.
//! Both use the types here, so that the contract exists once.

mod address;
mod client;
mod connections;
mod messages;
mod name;
mod token;

pub use address::{AddressError, AdminAddress, MAX_SOCKET_NAME_BYTES};
pub use client::{AdminClient, AdminError, Timeouts};
pub use messages::{
    ConflictResponse, DrainResponse, ErrorResponse, ModelSource, Phases, SpecializeRequest, SpecializeResponse,
    StateResponse, WrapperState,
};
pub use name::{NameError, check_model_name};
pub use token::{DrainClaims, KeyError, MAX_TOKEN_BYTES, TokenClaims, TokenError, TokenSigner, TokenVerifier};
