//! Content that is known by its digest.

use std::fmt::Write as _;
use std::io::{self, Write};

use oci_spec::image::{Descriptor, Digest, MediaType, Sha256Digest};
use sha2::Digest as _;

/// Digest and length of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    /// SHA-256 in hexadecimal.
    pub(crate) hex: String,
    /// Length in bytes.
    pub(crate) bytes: u64,
}

/// Passes bytes on and sums them up.
pub(crate) struct Summing<W> {
    inner: W,
    sha256: sha2::Sha256,
    bytes: u64,
}

// === impl Sum ===

impl Sum {
    /// `sha256:HEX`.
    pub(crate) fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    /// What refers to it.
    pub(crate) fn descriptor(&self, media_type: MediaType) -> Descriptor {
        let digest: Sha256Digest = self.hex.parse().expect("64 hexadecimal digits");
        Descriptor::new(media_type, self.bytes, Digest::from(digest))
    }

    /// Where an image layout keeps it.
    pub(crate) fn layout_path(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }
}

// === impl Summing ===

impl<W: Write> Summing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, sha256: sha2::Sha256::new(), bytes: 0 }
    }

    pub(crate) fn finish(self) -> Sum {
        let mut hex = String::with_capacity(64);
        for byte in self.sha256.finalize() {
            write!(hex, "{byte:02x}").expect("a string takes everything");
        }
        Sum { hex, bytes: self.bytes }
    }
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.sha256.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
