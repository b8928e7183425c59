//! What a runtime offers to the model server.

use std::sync::Arc;

use crate::{InferError, ModelMetadata, Tensor};

/// One loaded model. It is synchronous and lives on an OS thread of its own: sessions are not shared between threads, and a
/// long run must not occupy a thread that serves sockets.
pub trait Backend: Send {
    /// What the model takes and gives.
    fn metadata(&self) -> &ModelMetadata;

    /// Makes ready for a run: a cancel from now on ends it, also one that comes before it has begun, and one from before has
    /// no effect on it. A backend that cannot be cancelled need not care.
    fn arm(&mut self) {}

    /// Runs the model. Inputs have been checked against [`Backend::metadata`]. Answers the outputs called `outputs` in that
    /// order; all of them, in the model's order, where it is empty.
    fn run(&mut self, inputs: &[Tensor], outputs: &[String]) -> Result<Vec<Tensor>, InferError>;

    /// A handle that ends the run in progress from another thread.
    fn canceller(&self) -> Arc<dyn Cancel>;
}

/// Ends a run from another thread.
pub trait Cancel: Send + Sync {
    /// Ends the run in progress, which then answers [`InferError::Cancelled`]. Without one it does nothing, and a later run is
    /// not affected.
    fn cancel(&self);
}
