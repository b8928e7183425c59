//! Simulated nodes and pods, for tests of the control plane.
