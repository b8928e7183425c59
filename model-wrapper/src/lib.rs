//! model-wrapper
