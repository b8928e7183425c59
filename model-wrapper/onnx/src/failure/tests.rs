use super::*;

#[test]
fn the_operator_is_named_and_source_files_are_not() {
    let message = "Non-zero status code returned while running Add node. Name:'bias' Status Message: \
                   /onnxruntime_src/core/element_wise_ops.h:563 Attempting to broadcast an axis. 3 by 5\n";
    let said = of_run(ErrorCode::GenericFailure, message).to_string();
    assert!(
        said.starts_with("the model failed on these inputs: Add 'bias': Attempting to broadcast an axis. 3 by 5. "),
        "{said}"
    );
    let nameless = message.replace("bias", "");
    let said = of_run(ErrorCode::InvalidArgument, &nameless).to_string();
    assert_eq!(said, "the model refused the inputs: Add: Attempting to broadcast an axis. 3 by 5");
}

#[test]
fn only_what_must_be_the_devices_fault_is_this_servers() {
    for (code, reason) in [
        (ErrorCode::InvalidArgument, "bad-request"),
        (ErrorCode::GenericFailure, "run-failed"),
        (ErrorCode::RuntimeException, "run-failed"),
        (ErrorCode::NotImplemented, "run-failed"),
        (ErrorCode::ExecutionProviderFailure, "internal"),
        (ErrorCode::EngineError, "internal"),
        (ErrorCode::DeviceReset, "internal"),
    ] {
        let error = of_run(code, "stod");
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains("stod"), "{error}");
    }
}
