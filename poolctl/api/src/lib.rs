//! poolctl-api
