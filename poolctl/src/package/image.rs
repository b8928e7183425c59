//! What an image holds and says.

use poolctl_api::labels;
use poolctl_image::{Attributes, ImageBuilder, Layer, Program, StoredImage};

use super::model::PackagedModel;
use crate::model_server::{RUNTIME_LIBRARY, RUNTIME_VARIABLE};

/// Everything that is added lies here, so that nothing of a base image is touched.
const FOLDER: &str = "/kferving";

/// The model's files lie here as they lie in their own folder.
const MODEL_FOLDER: &str = "/kferving/model";

/// Port that predictions are asked at, which the model server has where it is given none.
const PORT: u16 = 8012;

/// A user of no special rights that no system has: the one that distroless images and Knative use.
const USER: &str = "65532:65532";

/// Variables that tell the server what to do; those of another image of ours must not tell it something else.
const MODEL_PATH: &str = "KFERVING_MODEL";
const MODEL_NAME: &str = "KFERVING_NAME";
const FORMAT: &str = "KFERVING_FORMAT";
const POOLED: &str = "KFERVING_POOLED";

/// What a base's programs are made to load would be loaded into the server too, beside another C library.
const PRELOAD: &str = "LD_PRELOAD";

/// The signal at which the server finishes what has begun; a base may have another for its own program.
const STOP_SIGNAL: &str = "SIGTERM";

/// Labels that say which model an image serves; its digest has the label that a revision has it in.
const MODEL: &str = "kferving.dev/model";
const MODEL_FORMAT: &str = "kferving.dev/model-format";

/// Standard annotations (OCI image specification), which labels repeat for tools that show only those.
const TITLE: &str = "org.opencontainers.image.title";
const DESCRIPTION: &str = "org.opencontainers.image.description";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// An image of the model server with this model, or without one.
///
/// What changes least lies lowest: images of many models share the layers of the server.
pub(super) fn describe(program: &Program, model: Option<&PackagedModel>, base: Option<StoredImage>) -> ImageBuilder {
    let mut saying = vec![(TITLE, title(model)), (DESCRIPTION, description(model))];
    saying.extend(base.as_ref().map(|base| (BASE_DIGEST, base.digest())));
    let mut image = match base {
        Some(base) => ImageBuilder::on(base),
        None => ImageBuilder::new(program.architecture().clone()),
    };
    image = image
        .layer(program.add_libraries(Layer::new("ONNX Runtime and system libraries"), FOLDER))
        .layer(program.add_program(Layer::new("model server"), FOLDER))
        .entrypoint(program.command(FOLDER))
        .env(RUNTIME_VARIABLE, format!("{FOLDER}/lib/{RUNTIME_LIBRARY}"))
        .user(USER)
        .working_dir("/")
        .port(PORT)
        .stop_signal(STOP_SIGNAL);
    image = [MODEL_PATH, MODEL_NAME, FORMAT, POOLED, PRELOAD].into_iter().fold(image, ImageBuilder::without_env);
    image = [MODEL, MODEL_FORMAT, labels::MODEL_DIGEST].into_iter().fold(image, ImageBuilder::without_label);
    match model {
        None => image = image.env(POOLED, "true"),
        Some(model) => {
            image = image
                .layer(layer_of(model))
                .env(MODEL_PATH, format!("{MODEL_FOLDER}/{}", model.file))
                .env(MODEL_NAME, &model.name)
                .env(FORMAT, model.format.as_str());
            saying.push((MODEL, model.name.clone()));
            saying.push((MODEL_FORMAT, model.format.as_str().to_owned()));
            saying.push((labels::MODEL_DIGEST, model.digest.clone()));
        }
    }
    saying.into_iter().fold(image, |image, (name, value)| image.label(name, &value).annotation(name, value))
}

fn layer_of(model: &PackagedModel) -> Layer {
    let layer = Layer::new(format!("model {}", model.name));
    model.files().fold(layer, |layer, file| {
        layer.file(format!("{MODEL_FOLDER}/{file}"), model.folder.join(file), Attributes::DATA)
    })
}

fn title(model: Option<&PackagedModel>) -> String {
    model.map_or_else(|| "KFerving model server".to_owned(), |model| model.name.clone())
}

fn description(model: Option<&PackagedModel>) -> String {
    match model {
        Some(model) => {
            format!("{} model {}, served over the Open Inference Protocol", model.format.as_str(), model.name)
        }
        None => "a model server that waits in a warm pool for a model".to_owned(),
    }
}
