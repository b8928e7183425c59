//! The models of a directory, resolved and inspected.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use poolctl_api::strict::Located;
use poolctl_api::{ModelDefinition, ModelFormat, VariantDefinition, source};

use super::inspect::{Inspection, Inspector};
use super::revisions::{Devices, Resolved, Variant};

/// Every model of the directory with what became of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// In the order of the files.
    pub entries: Vec<Entry>,
}

/// One model.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As written.
    pub definition: ModelDefinition,
    /// Its variants, each with its source or why it cannot run.
    pub variants: Vec<Variant>,
}

/// Where a variant's bytes are, or why they are nowhere.
enum Place {
    At(PathBuf),
    Nowhere(Resolved),
}

impl Catalog {
    /// Finds and inspects the sources of `models` on a machine that has `devices`.
    pub async fn resolve(models: &[Located<ModelDefinition>], devices: &Devices, inspector: &Inspector) -> Self {
        let mut places = Vec::new();
        let mut paths = BTreeSet::new();
        for model in models {
            let base = model.file.parent().unwrap_or(Path::new("."));
            for variant in &model.value.variants {
                let place = place(base, variant, devices);
                if let Place::At(path) = &place {
                    paths.insert(path.clone());
                }
                places.push(place);
            }
        }
        let inspected = inspector.inspect(ModelFormat::Onnx, paths.into_iter().collect()).await;

        let mut places = places.into_iter();
        let entries = models.iter().map(|model| {
            let variants = model.value.variants.iter().zip(&mut places).map(|(definition, place)| Variant {
                definition: definition.clone(),
                resolved: settle(definition, place, &inspected),
            });
            Entry { variants: variants.collect(), definition: model.value.clone() }
        });
        Self { entries: entries.collect() }
    }
}

fn place(base: &Path, variant: &VariantDefinition, devices: &Devices) -> Place {
    if let Some(message) = devices.lacks(variant.device) {
        return Place::Nowhere(Resolved::DeviceUnavailable(message));
    }
    if variant.format != ModelFormat::Onnx {
        let message = format!("modelFormat {}: this model server loads onnx only", variant.format.as_str());
        return Place::Nowhere(Resolved::LoadFailed(message));
    }
    match source::resolve(base, &variant.storage_uri) {
        Ok(path) => Place::At(path),
        Err(error) => Place::Nowhere(Resolved::LoadFailed(error.to_string())),
    }
}

fn settle(
    variant: &VariantDefinition,
    place: Place,
    inspected: &BTreeMap<PathBuf, Result<Inspection, String>>,
) -> Resolved {
    let path = match place {
        Place::At(path) => path,
        Place::Nowhere(resolved) => return resolved,
    };
    match inspected.get(&path) {
        Some(Ok(inspection)) => match &variant.sha256 {
            Some(expected) if inspection.digest != format!("sha256:{expected}") => Resolved::LoadFailed(format!(
                "{} has the digest {}, expected sha256:{expected}",
                path.display(),
                inspection.digest
            )),
            _ => Resolved::Loadable { path, inspection: inspection.clone() },
        },
        Some(Err(reason)) => Resolved::LoadFailed(format!("{}: {reason}", path.display())),
        None => Resolved::LoadFailed(format!("{} was not inspected", path.display())),
    }
}
