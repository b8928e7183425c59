//! The admin port of a model wrapper: its messages, its signed token and its client.
//!
//! The autoscaler specializes and drains replicas through it, on a cluster and on one machine alike; the wrapper serves it.
//! Both use the types here, so that the contract exists once.

mod messages;

pub use messages::{
    ConflictResponse, DrainResponse, ModelSource, Phases, SpecializeRequest, SpecializeResponse, StateResponse,
    WrapperState,
};
