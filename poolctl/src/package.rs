//! `poolctl package`: a container image of a model and the server that answers for it.

mod credentials;
mod image;
mod interruption;
mod model;
mod push;
mod report;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use poolctl_image::{
    Compression, ImageBuilder, ImageError, ImageSummary, Program, Reference, Scratch, ScratchFolder, StoredImage,
};

use crate::cli::{DataFormat, PackageArgs};
use crate::model_server::{self, RUNTIME_LIBRARY};
use crate::show;
use model::PackagedModel;
use report::{Account, Form};

/// Name of the program in the image, whatever it is called here.
const PROGRAM: &str = "model-wrapper";

/// Makes the image, writes it, pushes it, and says what it is. A signal ends it and leaves nothing half done behind.
///
/// # Errors
/// What is missing or wrong, and what to do.
pub fn run(arguments: &PackageArgs) -> anyhow::Result<()> {
    let scratch = Scratch::new();
    interruption::end_on_signals(scratch.clone()).context("signals cannot be listened to")?;
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
    let compression = match arguments.compress {
        0 => Compression::None,
        level => Compression::Gzip(level),
    };
    let builder = image::describe(&program, model.as_ref(), base).compression(compression).scratch(scratch.clone());
    let target = Target::of(arguments, &scratch)?;
    let image = target.write(&builder, &reference)?;
    if let Some(model) = &model {
        model.is_unchanged()?;
    }
    let pushed = match &arguments.push {
        None => None,
        Some(registry) => {
            let stored = StoredImage::find(&target.path, program.architecture(), &image.digest)?;
            Some(show::runtime()?.block_on(push::push(&stored, registry))?)
        }
    };
    let written = target.written();
    let account = Account::new(&image, model.as_ref(), written, pushed.as_ref());
    let text = match arguments.report {
        Some(DataFormat::Json) => show::json(&account)?,
        Some(DataFormat::Yaml) => show::yaml(&account)?,
        None => report::render(&account),
    };
    show::print(&text)
}

/// Where the image is written.
struct Target {
    path: PathBuf,
    form: Form,
    /// Where it is only pushed: the folder that it is in meanwhile.
    temporary: Option<ScratchFolder>,
}

// === impl Target ===

impl Target {
    fn of(arguments: &PackageArgs, scratch: &Scratch) -> anyhow::Result<Self> {
        if let Some(path) = &arguments.output {
            return Ok(Self { path: path.clone(), form: form_of(path), temporary: None });
        }
        let parent = env::temp_dir();
        let temporary = scratch.folder(&parent);
        let temporary = temporary.with_context(|| format!("no private folder can be made in {}", parent.display()))?;
        Ok(Self { path: temporary.path().join("image.tar"), form: Form::Archive, temporary: Some(temporary) })
    }

    fn write(&self, builder: &ImageBuilder, reference: &Reference) -> Result<ImageSummary, ImageError> {
        match self.form {
            Form::Archive => builder.write_archive(&self.path, reference),
            Form::Layout => builder.write_layout(&self.path, reference),
        }
    }

    /// What stays.
    fn written(&self) -> Option<(&Path, Form)> {
        self.temporary.is_none().then_some((self.path.as_path(), self.form))
    }
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
