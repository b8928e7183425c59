//! Claims from end to end: the autoscaler over the local cluster with real wrappers and a real model, driven by a gateway's
//! end of the demand stream.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod crashes;
mod faulty_admin;
mod gateway;
mod lifecycle;
mod replies;
mod request;
mod stack;
