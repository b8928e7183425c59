//! How layers are compressed.

use std::io::Write;
use std::path::Path;

use flate2::GzBuilder;
use flate2::write::GzEncoder;
use oci_spec::image::MediaType;

use crate::ImageError;

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: for an image that stays on this machine.
    None,
    /// With gzip, at a level from 1 (fast) to 9 (small).
    Gzip(u32),
}

// === impl Compression ===

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip(6)
    }
}

impl Compression {
    /// Media type of a layer that is compressed so.
    pub(crate) fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip(_) => MediaType::ImageLayerGzip,
        }
    }

    /// Gives `fill` a writer whose content arrives compressed at `out`, which errors call `output`.
    pub(crate) fn through<W: Write, T>(
        self,
        mut out: W,
        fill: impl FnOnce(&mut dyn Write) -> Result<T, ImageError>,
        output: &Path,
    ) -> Result<T, ImageError> {
        match self {
            Self::None => fill(&mut out),
            Self::Gzip(level) => {
                // the header says neither when nor where: flate2 writes time 0 and 'unknown' for the system
                let level = flate2::Compression::new(level.min(9));
                let mut encoder: GzEncoder<_> = GzBuilder::new().mtime(0).write(out, level);
                let filled = fill(&mut encoder)?;
                encoder.finish().map_err(|error| ImageError::Output { path: output.to_owned(), error })?;
                Ok(filled)
            }
        }
    }
}
