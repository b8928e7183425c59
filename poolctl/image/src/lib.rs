//! Container images in the [OCI format](https://github.com/opencontainers/image-spec), written reproducibly and without
//! Docker.
//!
//! An image is described by an [`ImageBuilder`]: [`Layer`]s of files, and what is run. It is written as one tar file
//! ([`ImageBuilder::write_archive`], for `ctr images import` and `docker load`) or as a folder
//! ([`ImageBuilder::write_layout`]). The same description and the same bytes give the same digest: entries are sorted,
//! times are 0, owners and modes are what the description says. Files are streamed; no layer is ever in memory.
//!
//! [`Program`] finds the shared libraries that a program needs in an image; [`StoredImage`] is an image that is there
//! already, to build on or to push.
//!
//! ```no_run
//! use poolctl_image::{Attributes, ImageBuilder, Layer};
//!
//! let layer = Layer::new("the pause program").file("/pause", "target/pause", Attributes::EXECUTABLE);
//! let image = ImageBuilder::for_host().layer(layer).entrypoint(["/pause"]).user("65532:65532");
//! let written = image.write_archive("pause.tar".as_ref(), &"dev.local/pause:v1".parse()?)?;
//! println!("{}", written.digest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blob;
mod builder;
mod compression;
mod config;
mod destination;
mod document;
mod error;
mod layer;
mod names;
mod program;
mod scratch;
mod stored;
mod summary;

pub use builder::ImageBuilder;
pub use compression::Compression;
pub use error::ImageError;
pub use layer::{Attributes, Layer};
pub use oci_spec::distribution::{ParseError as ReferenceError, Reference};
pub use oci_spec::image::Arch;
pub use program::{Program, ProgramError, usual_folders};
pub use scratch::{Scratch, ScratchFolder};
pub use stored::{StoredError, StoredImage};
pub use summary::{ImageSummary, LayerOrigin, LayerSummary};
