//! Starts, enters and stops a cluster on this machine.

fn main() {}
