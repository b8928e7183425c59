//! Models and warm pools, the stack on one machine, and the commands that look into it.

pub mod admin;
pub mod cli;
pub mod client;
pub mod crds;
pub mod model;
mod model_server;
pub mod package;
pub mod pool;
#[cfg(test)]
mod readme;
pub mod show;
pub mod up;
