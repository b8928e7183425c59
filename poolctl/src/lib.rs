//! poolctl
