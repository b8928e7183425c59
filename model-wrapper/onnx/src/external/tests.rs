use super::*;

fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | 2);
    out.extend(varint(content.len() as u64));
    out.extend_from_slice(content);
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn tensor(location: &str) -> Vec<u8> {
    let mut tensor = vec![0x08, 3, 0x10, 1];
    tensor.extend(field(13, &[field(1, b"location"), field(2, location.as_bytes())].concat()));
    tensor.extend(field(13, &[field(1, b"offset"), field(2, b"../../x")].concat()));
    tensor
}

fn model_with_initializer(location: &str) -> Vec<u8> {
    [vec![0x08, 10], field(7, &field(5, &tensor(location)))].concat()
}

#[test]
fn locations_are_found_wherever_a_tensor_can_be() {
    let attribute = |inner: Vec<u8>| field(1, &field(5, &inner));
    let places = [
        field(7, &field(5, &tensor("a"))),
        field(7, &field(15, &field(1, &tensor("b")))),
        field(7, &attribute(field(5, &tensor("c")))),
        field(7, &attribute(field(10, &tensor("d/e")))),
        field(7, &attribute(field(6, &attribute(field(11, &field(5, &tensor("f"))))))),
        field(25, &field(7, &field(5, &field(5, &tensor("g"))))),
        field(20, &field(1, &field(5, &tensor("h")))),
        field(7, &attribute(field(22, &field(2, &tensor("i"))))),
    ];
    let found = external_files(&places.concat()).unwrap();
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c", "d/e", "f", "g", "h", "i"]);
}

#[test]
fn a_location_outside_the_folder_is_refused() {
    for location in ["/etc/passwd", "../weights", "a/../../b", "./a", "a//b", "", "a\\b", "a\0b"] {
        let error = external_files(&model_with_initializer(location)).unwrap_err();
        assert!(matches!(&error, LoadError::ExternalData { location: named, .. } if named == location), "{error}");
    }
}

#[test]
fn hostile_bytes_end_in_an_error() {
    let whole = model_with_initializer("weights.bin");
    for length in 1..whole.len() {
        if let Err(error) = external_files(&whole[..length]) {
            assert!(matches!(error, LoadError::Malformed(_) | LoadError::ExternalData { .. }), "{error}");
        }
    }
    assert!(external_files(&[0xff; 11]).is_err());
    assert!(external_files(&[0x0b]).is_err());
    assert!(external_files(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());

    let mut nested = Vec::new();
    for _ in 0..200 {
        nested = field(1, &field(5, &field(6, &nested)));
    }
    assert!(external_files(&field(7, &nested)).unwrap_err().to_string().contains("nested"));
}

#[test]
fn the_number_of_files_is_bounded() {
    let tensors: Vec<u8> = (0..=MAX_EXTERNAL_FILES).flat_map(|index| field(5, &tensor(&format!("w{index}")))).collect();
    assert!(external_files(&field(7, &tensors)).unwrap_err().to_string().contains("4096"));
}
