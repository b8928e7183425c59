//! `poolctl package`: a container image of a model and the server that answers for it.

mod credentials;
mod image;
mod model;
mod push;
mod report;

use std::path::Path;

use anyhow::{Context, bail};
use poolctl_image::{Compression, ImageBuilder, ImageSummary, Program, Reference, StoredImage};

use crate::cli::{PackageArgs, Report};
use crate::model_server::{self, RUNTIME_LIBRARY};
use crate::show;
use model::PackagedModel;
use report::{Form, Packaged};

/// Name of the program in the image, whatever it is called here.
const PROGRAM: &str = "model-wrapper";

/// Makes the image, writes it, pushes it, and says what it is.
///
/// # Errors
/// What is missing or wrong, and what to do.
pub fn run(arguments: &PackageArgs) -> anyhow::Result<()> {
    let server = model_server::program(arguments.wrapper.clone())?;
    let library = model_server::runtime_library_file()?;
    let program = Program::open(&server)?.named(PROGRAM).and_library(RUNTIME_LIBRARY, &library)?;
    let model = match &arguments.model {
        Some(path) => Some(model::look_at(path, arguments.name.as_deref(), server, &library)?),
        None if arguments.name.is_some() => bail!("--name goes with a MODEL: without one the image gets it in a pool"),
        None => None,
    };
    let base = arguments.from.as_deref().map(|path| open_base(path, &program)).transpose()?;
    let reference = reference(arguments, model.as_ref())?;
    let builder = match arguments.compress {
        0 => image::describe(&program, model.as_ref(), base).compression(Compression::None),
        level => image::describe(&program, model.as_ref(), base).compression(Compression::Gzip(level)),
    };
    let packaged = write(arguments, &builder, &reference, &program)?;
    let text = match arguments.report {
        Some(Report::Json) => show::json(&packaged.with(model.as_ref()))?,
        Some(Report::Yaml) => show::yaml(&packaged.with(model.as_ref()))?,
        None => report::render(&packaged.with(model.as_ref())),
    };
    show::print(&text)
}

/// Writes to where the command line says, or where it only pushes, to a place that is gone afterwards.
fn write(
    arguments: &PackageArgs,
    builder: &ImageBuilder,
    reference: &Reference,
    program: &Program,
) -> anyhow::Result<Packaged> {
    let temporary;
    let (path, form) = match &arguments.output {
        Some(path) => (path.clone(), Some(form_of(path))),
        None => {
            temporary =
                tempfile::Builder::new().prefix("kferving-").tempdir().context("no private folder can be made")?;
            (temporary.path().join("image.tar"), None)
        }
    };
    let image: ImageSummary = match form {
        Some(Form::Layout) => builder.write_layout(&path, reference)?,
        Some(Form::Archive) | None => builder.write_archive(&path, reference)?,
    };
    let written = form.map(|form| (arguments.output.clone().unwrap_or_default(), form));
    let pushed = match &arguments.push {
        None => None,
        Some(target) => {
            let stored = StoredImage::find(&path, program.architecture(), &image.digest)?;
            Some(show::runtime()?.block_on(push::push(&stored, target))?)
        }
    };
    Ok(Packaged { image, written, pushed })
}

/// A path that ends in a slash, or is a folder, becomes an image layout.
fn form_of(path: &Path) -> Form {
    let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/") || path.is_dir();
    if is_folder { Form::Layout } else { Form::Archive }
}

fn open_base(path: &Path, program: &Program) -> anyhow::Result<StoredImage> {
    StoredImage::open(path, program.architecture()).context("--from")
}

fn reference(arguments: &PackageArgs, model: Option<&PackagedModel>) -> anyhow::Result<Reference> {
    if let Some(named) = arguments.tag.clone().or_else(|| arguments.push.clone()) {
        return Ok(named);
    }
    let name = model.map_or(PROGRAM, |model| &model.name);
    // nobody's registry is called localhost: no tool takes it for an image that it should fetch
    format!("localhost/{name}:latest").parse().with_context(|| {
        format!("no name for the image can be made of the model's name {name:?}: give one with --tag NAME:TAG")
    })
}
