//! Container images of the cluster's programs, made without a registry.
