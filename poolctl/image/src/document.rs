//! JSON with sorted keys: the maps of the OCI types have no order of their own, and a digest needs one.

use serde::Serialize;

/// The bytes of a document.
pub(crate) fn bytes<T: Serialize>(document: &T) -> Vec<u8> {
    let mut value = serde_json::to_value(document).expect("OCI documents have string keys");
    value.sort_all_objects();
    serde_json::to_vec(&value).expect("a value can be written")
}
