//! Which files an ONNX model refers to.
//!
//! ONNX keeps large weights in files beside the model (`TensorProto.external_data`, onnx.proto). A model is foreign input, so
//! the locations are read from its protobuf before the runtime sees it, and those that would leave its folder are refused.
//! The walk follows the few fields that lead to tensors and skips all else by length; it copies nothing.

use std::collections::BTreeSet;

use crate::LoadError;

#[cfg(test)]
mod tests;

/// Files a model may refer to. The largest models published as ONNX have some hundred.
pub const MAX_EXTERNAL_FILES: usize = 4096;

/// Graphs within graphs (If, Loop, Scan bodies). protobuf's own parser stops at 100 messages, which is 33 graphs.
const MAX_DEPTH: usize = 100;

/// Field numbers of onnx.proto that lead from a model to its tensors.
mod field {
    pub(super) const MODEL_GRAPH: u64 = 7;
    pub(super) const MODEL_TRAINING_INFO: u64 = 20;
    pub(super) const MODEL_FUNCTIONS: u64 = 25;
    pub(super) const TRAINING_INITIALIZATION: u64 = 1;
    pub(super) const TRAINING_ALGORITHM: u64 = 2;
    pub(super) const FUNCTION_NODE: u64 = 7;
    pub(super) const FUNCTION_ATTRIBUTE_PROTO: u64 = 11;
    pub(super) const GRAPH_NODE: u64 = 1;
    pub(super) const GRAPH_INITIALIZER: u64 = 5;
    pub(super) const GRAPH_SPARSE_INITIALIZER: u64 = 15;
    pub(super) const NODE_ATTRIBUTE: u64 = 5;
    pub(super) const ATTRIBUTE_TENSOR: u64 = 5;
    pub(super) const ATTRIBUTE_GRAPH: u64 = 6;
    pub(super) const ATTRIBUTE_TENSORS: u64 = 10;
    pub(super) const ATTRIBUTE_GRAPHS: u64 = 11;
    pub(super) const ATTRIBUTE_SPARSE_TENSOR: u64 = 22;
    pub(super) const ATTRIBUTE_SPARSE_TENSORS: u64 = 23;
    pub(super) const SPARSE_VALUES: u64 = 1;
    pub(super) const SPARSE_INDICES: u64 = 2;
    pub(super) const TENSOR_EXTERNAL_DATA: u64 = 13;
    pub(super) const ENTRY_KEY: u64 = 1;
    pub(super) const ENTRY_VALUE: u64 = 2;
}

/// The message that a length-delimited field holds.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
}

/// Relative paths of the files that `model` refers to, below the model's folder.
pub fn external_files(model: &[u8]) -> Result<BTreeSet<String>, LoadError> {
    let mut files = BTreeSet::new();
    walk(Message::Model, model, 0, &mut files)?;
    Ok(files)
}

fn walk(message: Message, bytes: &[u8], depth: usize, files: &mut BTreeSet<String>) -> Result<(), LoadError> {
    if depth > MAX_DEPTH {
        return Err(LoadError::Malformed("graphs are nested more than 100 messages deep"));
    }
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next()? {
        match (message, number) {
            (Message::Tensor, field::TENSOR_EXTERNAL_DATA) => entry(value, files)?,
            _ => {
                if let Some(inner) = descend(message, number) {
                    walk(inner, value, depth + 1, files)?;
                }
            }
        }
    }
    Ok(())
}

/// What field `number` of `message` holds, where tensors may be below it.
fn descend(message: Message, number: u64) -> Option<Message> {
    Some(match (message, number) {
        (Message::Model, field::MODEL_GRAPH)
        | (Message::Training, field::TRAINING_INITIALIZATION | field::TRAINING_ALGORITHM)
        | (Message::Attribute, field::ATTRIBUTE_GRAPH | field::ATTRIBUTE_GRAPHS) => Message::Graph,
        (Message::Model, field::MODEL_TRAINING_INFO) => Message::Training,
        (Message::Model, field::MODEL_FUNCTIONS) => Message::Function,
        (Message::Graph, field::GRAPH_NODE) | (Message::Function, field::FUNCTION_NODE) => Message::Node,
        (Message::Node, field::NODE_ATTRIBUTE) | (Message::Function, field::FUNCTION_ATTRIBUTE_PROTO) => {
            Message::Attribute
        }
        (Message::Graph, field::GRAPH_SPARSE_INITIALIZER)
        | (Message::Attribute, field::ATTRIBUTE_SPARSE_TENSOR | field::ATTRIBUTE_SPARSE_TENSORS) => Message::Sparse,
        (Message::Graph, field::GRAPH_INITIALIZER)
        | (Message::Attribute, field::ATTRIBUTE_TENSOR | field::ATTRIBUTE_TENSORS)
        | (Message::Sparse, field::SPARSE_VALUES | field::SPARSE_INDICES) => Message::Tensor,
        _ => return None,
    })
}

/// A `StringStringEntryProto` of `external_data`: its `location` names the file.
fn entry(bytes: &[u8], files: &mut BTreeSet<String>) -> Result<(), LoadError> {
    let (mut key, mut value) = (&[][..], &[][..]);
    let mut fields = Fields::of(bytes);
    while let Some((number, content)) = fields.next()? {
        match number {
            field::ENTRY_KEY => key = content,
            field::ENTRY_VALUE => value = content,
            _ => {}
        }
    }
    if key != b"location" {
        return Ok(());
    }
    let location =
        std::str::from_utf8(value).map_err(|_| LoadError::Malformed("the location of external data is not UTF-8"))?;
    check(location).map_err(|reason| LoadError::ExternalData { location: location.to_owned(), reason })?;
    if !files.contains(location) {
        if files.len() == MAX_EXTERNAL_FILES {
            return Err(LoadError::Malformed("it refers to more than 4096 external data files"));
        }
        files.insert(location.to_owned());
    }
    Ok(())
}

/// A location must be a plain relative path, so that it means the same file wherever the folder lies.
fn check(location: &str) -> Result<(), &'static str> {
    if location.is_empty() {
        return Err("its location is empty");
    }
    if location.contains(['\\', '\0']) {
        return Err("its location has a backslash or a zero byte");
    }
    if location.starts_with('/') {
        return Err("its location is absolute; only files in the model's folder are read");
    }
    if location.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("its location has an empty, '.' or '..' part; only files in the model's folder are read");
    }
    Ok(())
}

/// The length-delimited fields of a protobuf message; others are skipped.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Number and content of the next one.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, &'a [u8])>, LoadError> {
        const TRUNCATED: LoadError = LoadError::Malformed("a protobuf field is truncated");
        while !self.rest.is_empty() {
            let tag = self.varint()?;
            let skipped = match tag & 7 {
                0 => {
                    self.varint()?;
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => {
                    let length = usize::try_from(self.varint()?).map_err(|_| TRUNCATED)?;
                    let (value, rest) = self.rest.split_at_checked(length).ok_or(TRUNCATED)?;
                    self.rest = rest;
                    return Ok(Some((tag >> 3, value)));
                }
                _ => return Err(LoadError::Malformed("a protobuf field has an unknown wire type")),
            };
            self.rest = self.rest.split_at_checked(skipped).ok_or(TRUNCATED)?.1;
        }
        Ok(None)
    }

    fn varint(&mut self) -> Result<u64, LoadError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) =
                self.rest.split_first().ok_or(LoadError::Malformed("a protobuf number is truncated"))?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(LoadError::Malformed("a protobuf number has more than ten bytes"))
    }
}
