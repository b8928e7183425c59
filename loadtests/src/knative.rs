//! Services of stock Knative that go to zero and wake, in a cluster with Knative Serving.
//!
//! Nothing of Knative is changed or decided for it: it scales by its own annotations, and requests go to its own activator, with
//! the headers that an ingress would set.

mod cluster;
mod image;
mod pods;
pub mod timeline;

pub use cluster::{Cluster, ServiceSpec};
pub use image::make as make_image;
pub use pods::Pods;
