//! Headers by which gateway and model server understand each other.

/// The header of an answer that says why: of a success why this device served it ([`crate::Reason`]), of a failure its cause.
pub const REASON_HEADER: &str = "kferving-reason";

/// The header of a request that says which revision it is for, `NAMESPACE/REVISION@DIGEST`; a model server that holds another
/// answers 421 and does not run it.
pub const REVISION_HEADER: &str = "kferving-revision";
