//! A wrapper's life from outside: the real binary, real models, its ports, signals and the end.

mod bounds;
mod claims;
mod command;
mod lifecycle;
mod wrapper;
