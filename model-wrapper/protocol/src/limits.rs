//! How much a request may ask for.

/// Bounds of a request, all of them checked before anything is allocated by a number that the caller sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body, before and after it is decompressed. Triton's own default for HTTP is 64 MiB.
    pub max_body: usize,
    /// Dimensions of a tensor. NumPy stops at 64, and so no client can make more.
    pub max_dims: usize,
    /// Nesting of a JSON body. Triton's bound; nothing that the protocol describes goes deeper than `max_dims` and four more.
    pub max_json_depth: usize,
    /// Inputs, and likewise requested outputs. Decoder caches of large language models reach a few hundred.
    pub max_tensors: usize,
    /// Elements of type BYTES in one tensor. The wire says an empty one in 3 bytes and memory needs 32, so that the bound on
    /// the body alone would let memory grow tenfold.
    pub max_strings: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_body: 64 << 20, max_dims: 64, max_json_depth: 100, max_tensors: 1024, max_strings: 1 << 20 }
    }
}
