//! `poolctl up` and the commands beside it: the real binaries, real models, real sockets.

mod stack;

mod commands;
mod lifecycle;
mod predictions;
mod refusals;
