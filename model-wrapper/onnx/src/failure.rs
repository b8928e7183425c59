//! What a run that failed says, and of whom.

use model_wrapper_protocol::InferError;
use ort::ErrorCode;

#[cfg(test)]
mod tests;

/// What a caller can look at: its inputs have the names, types and shapes that the metadata asks for.
const ADVICE: &str = "The inputs fit the model's metadata; a model may demand more of them than it tells: extents that agree \
                      with one another, indices within bounds, a result that fits into memory";

/// The error of a run that ONNX Runtime ended with this code and message.
///
/// Operators do not say whose fault it was. INVALID_ARGUMENT they say only of what they were given; FAIL and RUNTIME_EXCEPTION
/// of extents that do not agree as well as of memory that runs out. The codes of a device are about that alone.
pub(crate) fn of_run(code: ErrorCode, message: &str) -> InferError {
    let what = what(message);
    match code {
        ErrorCode::InvalidArgument => InferError::BadRequest(format!("the model refused the inputs: {what}")),
        ErrorCode::ExecutionProviderFailure | ErrorCode::EngineError | ErrorCode::DeviceReset => {
            InferError::Internal(format!("the device failed: {what}"))
        }
        _ => InferError::RunFailed(format!("the model failed on these inputs: {what}. {ADVICE}")),
    }
}

/// The message, with the operator that failed in fewer words.
fn what(message: &str) -> String {
    let of_operator = || {
        let rest = message.strip_prefix("Non-zero status code returned while running ")?;
        let (operator, rest) = rest.split_once(" node. Name:'")?;
        let (name, reason) = rest.split_once("' Status Message: ")?;
        Some((operator, name, reason))
    };
    match of_operator() {
        Some((operator, "", reason)) => format!("{operator}: {}", without_paths(reason)),
        Some((operator, name, reason)) => format!("{operator} '{name}': {}", without_paths(reason)),
        None => without_paths(message),
    }
}

/// ONNX Runtime's messages name source files of the machine it was built on; a caller has no use for them.
pub(crate) fn without_paths(message: &str) -> String {
    message.split_whitespace().filter(|word| !word.starts_with('/')).collect::<Vec<_>>().join(" ")
}
