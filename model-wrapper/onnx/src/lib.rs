//! model-wrapper-onnx
