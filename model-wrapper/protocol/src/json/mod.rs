//! Tensor data as JSON text, without a tree in between.
//!
//! `data` is cut out of the body as text and walked once. serde's own number parser is not used for it: it reads FP64 with an
//! error of one unit in the last place unless slowed down, and it forgets how a wrong number was written.

mod decode;
mod depth;
mod encode;
mod syntax;
mod walk;

pub(crate) use decode::{decode, integers};
pub(crate) use depth::check_depth;
pub(crate) use encode::{check_lists, encode, lists, string};
pub(crate) use syntax::object;
