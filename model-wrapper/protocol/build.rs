//! Generates the inference service from its proto, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/open_inference.proto");
    let descriptors = protox::compile(["open_inference.proto"], ["proto"])?;
    // Tensors stay views of the message that they came in.
    tonic_prost_build::configure().bytes(".").codec_path("crate::grpc::BoundedCodec").compile_fds(descriptors)?;
    Ok(())
}
