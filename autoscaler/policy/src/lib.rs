//! autoscaler-policy
