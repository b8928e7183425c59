//! One file: its documents, their kinds, and what each describes.

use std::path::Path;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube::CustomResourceExt;
use serde::de::DeserializeOwned;
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

use crate::definition::{ModelDefinition, PoolDefinition};
use crate::field::{FieldError, FieldPath};
use crate::model::Model;
use crate::pool::WarmPool;
use crate::{API_VERSION, strict::Located};

use super::node::{Content, Node};
use super::{Problem, Resources, schema};

/// Fields of every document.
const DOCUMENT_FIELDS: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
/// Fields of `metadata` that people write. The others are the API server's.
const METADATA_FIELDS: [&str; 4] = ["name", "namespace", "labels", "annotations"];

static MODEL_SPEC: LazyLock<JSONSchemaProps> = LazyLock::new(spec_schema::<Model>);
static POOL_SPEC: LazyLock<JSONSchemaProps> = LazyLock::new(spec_schema::<WarmPool>);

/// The schema of `spec` in a CRD that has one version.
fn spec_schema<T: CustomResourceExt>() -> JSONSchemaProps {
    let mut versions = T::crd().spec.versions;
    let schema = versions.pop().and_then(|version| version.schema).and_then(|schema| schema.open_api_v3_schema);
    let spec = schema.and_then(|schema| schema.properties).and_then(|mut fields| fields.remove("spec"));
    spec.expect("the derive macro puts the schema of spec into every CRD")
}

/// Reads the documents of one file.
pub(super) fn parse_file(file: &Path, text: &str, namespace: &str) -> Result<Resources, Vec<Problem>> {
    let options = serde_saphyr::options! { with_snippet: false };
    let mut documents: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
        vec![Problem { file: file.to_owned(), line, path: FieldPath::root(), message }]
    })?;

    let mut resources = Resources::default();
    let mut problems = Vec::new();
    for document in &mut documents {
        document.read_as_text("sha256", text);
        if let Err(errors) = add(document, file, namespace, &mut resources) {
            problems.extend(errors.into_iter().map(|error| Problem {
                file: file.to_owned(),
                line: document.line_of(&error.path),
                path: error.path,
                message: error.message,
            }));
        }
    }
    if problems.is_empty() { Ok(resources) } else { Err(problems) }
}

fn add(document: &Node, file: &Path, namespace: &str, resources: &mut Resources) -> Result<(), Vec<FieldError>> {
    let kind = kind(document).map_err(|error| vec![error])?;
    let spec_schema = match kind {
        Kind::Model => &*MODEL_SPEC,
        Kind::WarmPool => &*POOL_SPEC,
    };
    let mut errors = Vec::new();
    check_fields(document, &FieldPath::root(), &DOCUMENT_FIELDS, &mut errors);
    check_metadata(document, &mut errors);
    let spec = FieldPath::of(&["spec"]);
    match document.entry("spec") {
        Some(entry) => schema::check(&entry.value, spec_schema, &spec, &mut errors),
        None => errors.push(FieldError::new(spec, "required, but it is missing")),
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    match kind {
        Kind::Model => {
            let value = ModelDefinition::of(&decode(document)?, namespace)?;
            resources.models.push(Located { value, file: file.to_owned(), line: document.line });
        }
        Kind::WarmPool => {
            let value = PoolDefinition::of(&decode(document)?)?;
            resources.pools.push(Located { value, file: file.to_owned(), line: document.line });
        }
    }
    Ok(())
}

fn decode<T: DeserializeOwned>(document: &Node) -> Result<T, Vec<FieldError>> {
    serde_json::from_value(document.to_json())
        .map_err(|error| vec![FieldError::new(FieldPath::root(), error.to_string())])
}

#[derive(Clone, Copy)]
enum Kind {
    Model,
    WarmPool,
}

fn kind(document: &Node) -> Result<Kind, FieldError> {
    let Content::Map(_) = document.content else {
        let message = format!("expected a Model or a WarmPool, got {}", document.describe());
        return Err(FieldError::new(FieldPath::root(), message));
    };
    let text = |key: &str, expected: &str| {
        let path = FieldPath::of(&[key]);
        match document.entry(key).map(|entry| &entry.value) {
            Some(Node { content: Content::Text(text), .. }) => Ok(text.as_str()),
            Some(other) => Err(FieldError::new(path, format!("expected {expected}, got {}", other.describe()))),
            None => Err(FieldError::new(path, format!("required, but it is missing: expected {expected}"))),
        }
    };
    let version = text("apiVersion", API_VERSION)?;
    if version != API_VERSION {
        let message = format!("expected {API_VERSION}, got {version:?}");
        return Err(FieldError::new(FieldPath::of(&["apiVersion"]), message));
    }
    match text("kind", "Model or WarmPool")? {
        "Model" => Ok(Kind::Model),
        "WarmPool" => Ok(Kind::WarmPool),
        other => Err(FieldError::new(FieldPath::of(&["kind"]), format!("expected Model or WarmPool, got {other:?}"))),
    }
}

fn check_metadata(document: &Node, errors: &mut Vec<FieldError>) {
    let path = FieldPath::of(&["metadata"]);
    let Some(metadata) = document.entry("metadata").map(|entry| &entry.value) else {
        errors.push(FieldError::new(path.child("name"), "required, but it is missing"));
        return;
    };
    let Content::Map(entries) = &metadata.content else {
        errors.push(FieldError::new(path, format!("expected a mapping, got {}", metadata.describe())));
        return;
    };
    check_fields(metadata, &path, &METADATA_FIELDS, errors);
    if metadata.entry("name").is_none() {
        errors.push(FieldError::new(path.child("name"), "required, but it is missing"));
    }
    for entry in entries {
        let child = path.child(&entry.key);
        match entry.key.as_str() {
            "name" | "namespace" => check_text(&entry.value, &child, errors),
            "labels" | "annotations" => match &entry.value.content {
                Content::Map(values) => {
                    for value in values {
                        check_text(&value.value, &child.child(&value.key), errors);
                    }
                }
                _ => errors.push(FieldError::new(child, format!("expected a mapping, got {}", entry.value.describe()))),
            },
            // reported as unknown above
            _ => {}
        }
    }
}

fn check_text(node: &Node, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if !matches!(node.content, Content::Text(_)) {
        let message = format!("expected text, got {}: put it into quotes", node.describe());
        errors.push(FieldError::new(path.clone(), message));
    }
}

fn check_fields(node: &Node, path: &FieldPath, known: &[&str], errors: &mut Vec<FieldError>) {
    let Content::Map(entries) = &node.content else { return };
    for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        let message = schema::unknown_field(&entry.key, known.iter().copied());
        errors.push(FieldError::new(path.child(&entry.key), message));
    }
}
