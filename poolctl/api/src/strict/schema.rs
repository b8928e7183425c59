//! Unknown fields, missing fields and wrong types, found by walking the CRD schema.
//!
//! Only the shape is checked here. What a text means (a duration, a digest) and how fields relate is checked on the
//! decoded resource, where one set of rules serves files and controllers.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrBool};

use crate::field::{FieldError, FieldPath};

use super::node::{Content, Node};

/// A key is taken for a misspelling of another up to this many edits away.
const MAX_TYPO_EDITS: usize = 2;

/// Adds every place where `node` departs from `schema`.
pub(super) fn check(node: &Node, schema: &JSONSchemaProps, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut fail = |message: String| errors.push(FieldError::new(path.clone(), message));
    if schema.x_kubernetes_int_or_string == Some(true) {
        if !matches!(node.content, Content::Text(_) | Content::Number(_)) {
            fail(format!("expected a quantity such as 500m or 512Mi, got {}", node.describe()));
        }
        return;
    }
    let expected = match (schema.type_.as_deref(), &node.content) {
        (Some("object"), Content::Map(_)) => return check_object(node, schema, path, errors),
        (Some("object"), Content::Null) => {
            return fail("expected a mapping, got nothing: write {} for one of defaults".to_owned());
        }
        (Some("object"), _) => "a mapping",
        (Some("string"), Content::Text(text)) => {
            if let Some(message) = unlike_any_choice(schema, text) {
                fail(message);
            }
            return;
        }
        (Some("string"), _) if schema.format.as_deref() == Some("duration") => "a duration such as 50ms, 30s or 1m30s",
        (Some("string"), Content::Number(number)) => {
            return fail(format!("expected text, got the number {number}: put it into quotes"));
        }
        (Some("string"), _) => "text",
        (Some("integer"), Content::Number(number)) if number.is_i64() => return,
        (Some("integer"), _) => "a whole number",
        (Some("number"), Content::Number(_)) => return,
        (Some("number"), _) => "a number",
        (Some("boolean"), Content::Bool(_)) => return,
        (Some("boolean"), _) => "true or false",
        // the schemas of this crate have no other types: a list here would be a type that a check was not written for
        (other, _) => return fail(format!("cannot be checked: the schema has the type {other:?}")),
    };
    fail(format!("expected {expected}, got {}", node.describe()));
}

fn check_object(node: &Node, schema: &JSONSchemaProps, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Content::Map(entries) = &node.content else { return };
    for entry in entries {
        let child = path.child(&entry.key);
        let field = schema.properties.as_ref().and_then(|properties| properties.get(&entry.key));
        match (field, &schema.additional_properties) {
            (Some(field), _) => check(&entry.value, field, &child, errors),
            (None, Some(JSONSchemaPropsOrBool::Schema(values))) => check(&entry.value, values, &child, errors),
            (None, _) => {
                let known = schema.properties.iter().flat_map(|properties| properties.keys().map(String::as_str));
                errors.push(FieldError::new(child, unknown_field(&entry.key, known)));
            }
        }
    }
    for required in schema.required.iter().flatten() {
        if node.entry(required).is_none() {
            errors.push(FieldError::new(path.child(required), "required, but it is missing"));
        }
    }
}

fn unlike_any_choice(schema: &JSONSchemaProps, text: &str) -> Option<String> {
    let choices = schema.enum_.as_ref()?;
    if choices.iter().any(|choice| choice.0 == text) {
        return None;
    }
    let choices: Vec<&str> = choices.iter().filter_map(|choice| choice.0.as_str()).collect();
    Some(format!("expected one of {}, got {text:?}", choices.join(", ")))
}

/// The message for a field that does not exist.
pub(super) fn unknown_field<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let nearest = known.iter().map(|candidate| (edits(key, candidate), *candidate)).min();
    match nearest {
        Some((distance, candidate)) if distance <= MAX_TYPO_EDITS => {
            format!("unknown field: did you mean {candidate}?")
        }
        _ => format!("unknown field: expected one of {}", known.join(", ")),
    }
}

/// Levenshtein distance, without regard to case.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substitute = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
