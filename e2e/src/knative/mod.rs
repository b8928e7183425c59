//! Knative Serving from its released modules, unmodified.
