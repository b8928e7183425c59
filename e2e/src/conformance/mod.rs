//! Knative's own test suites, run against the cluster, and their results as a table.
