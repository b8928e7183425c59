//! From YAML files to the objects that are applied, in their order.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::source::{KnativeSource, image_of_program};
use super::{Error, Settings};

/// Prefixes of the images of Knative's programs: as its sources have them, and as its released YAML has them.
const IMAGES: [&str; 2] = ["ko://knative.dev/serving/cmd/", "gcr.io/knative-releases/knative.dev/serving/cmd/"];

/// Prefix of any image that is to be built.
const TO_BUILD: &str = "ko://";

/// An object of the release.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) phase: Phase,
    pub(super) kind: String,
    /// `group/version` or `version`.
    pub(super) api_version: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) value: Value,
}

/// Groups of objects of which each needs those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Namespaces.
    Namespaces,
    /// Types.
    Definitions,
    /// What programs read when they start, and objects of the new types.
    Rest,
    /// The programs.
    Workloads,
    /// Whom the API server asks about the objects from now on.
    Webhooks,
}

// === impl Phase ===

impl Phase {
    pub(super) const ALL: [Self; 5] =
        [Self::Namespaces, Self::Definitions, Self::Rest, Self::Workloads, Self::Webhooks];

    fn of(kind: &str) -> Self {
        match kind {
            "Namespace" => Self::Namespaces,
            "CustomResourceDefinition" => Self::Definitions,
            "Deployment" => Self::Workloads,
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => Self::Webhooks,
            _ => Self::Rest,
        }
    }
}

// === impl Object ===

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Object {
    fn of(mut value: Value) -> Result<Self, String> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let kind = text("/kind").ok_or("an object without kind")?;
        let name = text("/metadata/name").ok_or_else(|| format!("a {kind} without name"))?;
        let api_version = text("/apiVersion").ok_or_else(|| format!("{kind} {name} without apiVersion"))?;
        let namespace = text("/metadata/namespace");
        rewrite_images(&mut value)
            .map_err(|image| format!("{kind} {name} has the image {image}, which is not built here"))?;
        Ok(Self { phase: Phase::of(&kind), kind, api_version, namespace, name, value })
    }
}

/// The objects of the source in the order of their phases, with the settings in them.
pub(super) fn read(source: &KnativeSource, settings: &Settings) -> Result<Vec<Object>, Error> {
    let mut objects = Vec::new();
    for file in source.files()? {
        let failed = |reason: String| Error::Object { file: file.clone(), reason };
        let text = std::fs::read_to_string(&file).map_err(|source| failed(source.to_string()))?;
        objects.extend(parse(&file, &text)?);
    }
    configure(&mut objects, &settings.config)?;
    objects.sort_by_key(|object| object.phase);
    Ok(objects)
}

/// The objects of one file that are wanted.
pub(super) fn parse(file: &Path, text: &str) -> Result<Vec<Object>, Error> {
    let failed = |reason: String| Error::Object { file: file.to_owned(), reason };
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| failed(error.to_string()))?;
    let objects = documents.into_iter().filter(|document| !document.is_null()).map(Object::of);
    let objects: Vec<Object> = objects.collect::<Result<_, _>>().map_err(failed)?;
    Ok(objects.into_iter().filter(|object| is_wanted(&object.kind)).collect())
}

/// Autoscalers need a metrics API, and a disruption budget of 80 % of one replica would let nobody evict it.
fn is_wanted(kind: &str) -> bool {
    !matches!(kind, "HorizontalPodAutoscaler" | "PodDisruptionBudget")
}

/// Replaces the names of images to be built, wherever they are, by those of ours. The error is an image that we do not have.
fn rewrite_images(value: &mut Value) -> Result<(), String> {
    match value {
        Value::String(text) => {
            if let Some(ours) = our_image(text)? {
                *text = ours;
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(rewrite_images),
        Value::Object(fields) => fields.values_mut().try_for_each(rewrite_images),
        _ => Ok(()),
    }
}

fn our_image(text: &str) -> Result<Option<String>, String> {
    let Some(rest) = IMAGES.iter().find_map(|prefix| text.strip_prefix(prefix)) else {
        return if text.starts_with(TO_BUILD) { Err(text.to_owned()) } else { Ok(None) };
    };
    let program = rest.split(['@', ':']).next().unwrap_or_default();
    image_of_program(program).map(Some).ok_or_else(|| text.to_owned())
}

/// Sets keys of `ConfigMap`s.
fn configure(objects: &mut [Object], config: &BTreeMap<String, BTreeMap<String, String>>) -> Result<(), Error> {
    for (name, keys) in config {
        let found = objects.iter_mut().find(|object| object.kind == "ConfigMap" && object.name == *name);
        let data = found.and_then(|object| object.value.as_object_mut()).and_then(|object| {
            let data = object.entry("data").or_insert_with(|| Value::Object(serde_json::Map::new()));
            data.as_object_mut()
        });
        let Some(data) = data else {
            let maps = objects.iter().filter(|object| object.kind == "ConfigMap");
            let existing = maps.map(|object| object.name.as_str()).collect::<Vec<_>>().join(", ");
            let keys = keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(Error::NoConfigMap { name: name.clone(), keys, existing });
        };
        data.extend(keys.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))));
    }
    Ok(())
}
