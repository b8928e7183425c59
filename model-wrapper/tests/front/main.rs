//! The prediction front from outside: the real binary, real models, real clients.

mod clients;
mod hostile;
mod interrupted;
mod protocol;
mod support;
