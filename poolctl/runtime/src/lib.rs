//! poolctl-runtime
