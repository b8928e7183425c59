use model_wrapper_protocol::{DataType, TensorMetadata};

use super::*;

fn bytes(name: &str, shape: &[usize], content: &[u8]) -> Tensor {
    Tensor {
        name: name.into(),
        datatype: DataType::Uint8,
        shape: shape.to_vec(),
        data: TensorData::Fixed(Bytes::copy_from_slice(content)),
    }
}

fn words(shape: &[usize], content: &[&'static str]) -> Tensor {
    Tensor {
        name: "words".into(),
        datatype: DataType::Bytes,
        shape: shape.to_vec(),
        data: TensorData::Strings(content.iter().map(|word| Bytes::from_static(word.as_bytes())).collect()),
    }
}

fn request(rows: usize) -> InferRequest {
    InferRequest { inputs: vec![bytes("x", &[rows, 2], &vec![rows as u8; rows * 2])], ..Default::default() }
}

fn picked(requests: &[InferRequest], max: usize) -> (Vec<usize>, usize) {
    pick(requests.iter().map(|request| (request, rows(request, 1))), max)
}

#[test]
fn rows_are_what_all_inputs_share() {
    assert_eq!(rows(&request(3), 1), Some(3));
    assert_eq!(rows(&request(0), 1), None);
    assert_eq!(rows(&InferRequest::default(), 1), None);
    let scalar = InferRequest { inputs: vec![bytes("x", &[], &[1])], ..Default::default() };
    assert_eq!(rows(&scalar, 1), None);
    let mixed =
        InferRequest { inputs: vec![bytes("x", &[2, 1], &[1, 1]), bytes("y", &[1, 1], &[1])], ..Default::default() };
    assert_eq!(rows(&mixed, 2), None);
    let twice = InferRequest { inputs: [request(3).inputs, request(3).inputs].concat(), ..InferRequest::default() };
    assert_eq!((rows(&twice, 2), rows(&twice, 1)), (Some(3), None), "an optional input is no input of rows");
}

#[test]
fn the_maximum_is_never_passed() {
    let requests = [request(2), request(3), request(1), request(1)];
    assert_eq!(picked(&requests, 4), (vec![0, 2, 3], 4));
    assert_eq!(picked(&requests, 5), (vec![0, 1], 5));
    assert_eq!(picked(&requests, 100), (vec![0, 1, 2, 3], 7));
    assert_eq!(picked(&requests, 1), (vec![0], 2));
    assert_eq!(picked(&[], 4), (vec![], 0));
}

#[test]
fn only_like_joins_like() {
    let wide = InferRequest { inputs: vec![bytes("x", &[1, 3], &[0; 3])], ..Default::default() };
    let named = InferRequest { inputs: vec![bytes("z", &[1, 2], &[0; 2])], ..Default::default() };
    let choosy = InferRequest { outputs: vec!["y".into()], ..request(1) };
    let requests = [request(1), wide, named, choosy, request(0), request(1)];
    assert_eq!(picked(&requests, 10), (vec![0, 5], 2));
    assert_eq!(picked(&requests[4..], 10), (vec![0], 1));
}

#[test]
fn joined_and_parted_each_gets_its_own_rows() {
    let one = InferRequest { inputs: vec![bytes("x", &[1, 2], &[1, 2]), words(&[1, 1], &["a"])], ..Default::default() };
    let two = InferRequest {
        inputs: vec![bytes("x", &[2, 2], &[3, 4, 5, 6]), words(&[2, 1], &["b", "c"])],
        ..Default::default()
    };
    assert!(compatible(&one, &two));
    let joined = join(&[&one, &two]);
    assert_eq!(joined, [bytes("x", &[3, 2], &[1, 2, 3, 4, 5, 6]), words(&[3, 1], &["a", "b", "c"])]);
    assert_eq!(part(&joined, &[1, 2]), Some(vec![one.inputs, two.inputs]));
}

#[test]
fn an_output_without_a_row_for_each_row_cannot_be_parted() {
    assert_eq!(part(&[bytes("y", &[2, 1], &[1, 2])], &[1, 2]), None);
    assert_eq!(part(&[bytes("y", &[], &[1])], &[1]), None);
    let empty_rows = part(&[bytes("y", &[2, 0], &[])], &[1, 1]).unwrap();
    assert_eq!(empty_rows[1], [bytes("y", &[1, 0], &[])]);
}

#[test]
fn a_fixed_first_dimension_is_an_obstacle() {
    let tensor = |name: &str, shape: &[i64]| TensorMetadata {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: shape.to_vec(),
    };
    let metadata = |input: &[i64], output: &[i64]| ModelMetadata {
        name: "m".into(),
        versions: vec![],
        platform: "p".into(),
        inputs: vec![tensor("x", input)],
        outputs: vec![tensor("y", output)],
        optional_inputs: Vec::new(),
        properties: vec![],
    };
    assert_eq!(obstacle(&metadata(&[-1, 3], &[-1])), None);
    assert_eq!(obstacle(&metadata(&[1, 3], &[-1])).unwrap(), "input 'x' has the shape [1, 3]");
    assert_eq!(obstacle(&metadata(&[-1, 3], &[])).unwrap(), "output 'y' has the shape []");
}
