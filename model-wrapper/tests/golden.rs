//! The served models answer what Python's onnxruntime answers: bit for bit the same graph, over the wire.
//!
//! `make models` makes the golden files (examples/make_test_models.py); the digits' held-out rows are committed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// Between one build of ONNX Runtime and another on the same processor only the order of additions may differ.
const TOLERANCE: f32 = 1e-4;

struct Wrapper {
    process: Child,
    addr: SocketAddr,
}

impl Wrapper {
    fn serving(model: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_model-wrapper"))
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--model"])
            .arg(model)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the wrapper starts");
        let lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let addr = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ready http://").and_then(|addr| addr.parse().ok()))
            .expect("the wrapper announces its address; `make models` makes the models");
        Self { process, addr }
    }

    /// Sends a POST and gives the answer's head and body.
    fn post(&self, path: &str, headers: &str, body: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.addr).expect("the wrapper listens");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("the request is taken");
        stream.write_all(body).expect("the request is taken");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer comes");
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("the answer has a head");
        (String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase(), answer[end + 4..].to_vec())
    }
}

impl Drop for Wrapper {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_owned()
}

fn header_value(head: &str, name: &str) -> Option<usize> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
}

fn width(datatype: &str) -> usize {
    match datatype {
        "FP32" => 4,
        "INT64" => 8,
        other => panic!("golden files have no {other}"),
    }
}

fn elements(tensor: &Value) -> usize {
    tensor["shape"]
        .as_array()
        .expect("a golden tensor has a shape")
        .iter()
        .map(|extent| usize::try_from(extent.as_u64().expect("an extent is a number")).expect("it fits"))
        .product()
}

fn assert_close(name: &str, datatype: &str, got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len(), "{name}: bytes");
    if datatype != "FP32" {
        assert_eq!(got, expected, "{name}");
        return;
    }
    for (index, (got, expected)) in got.chunks_exact(4).zip(expected.chunks_exact(4)).enumerate() {
        let got = f32::from_le_bytes(got.try_into().expect("four bytes"));
        let expected = f32::from_le_bytes(expected.try_into().expect("four bytes"));
        assert!((got - expected).abs() <= TOLERANCE, "{name}[{index}]: got {got}, expected {expected}");
    }
}

fn agrees_with_golden(name: &str, model: &Path) {
    let wrapper = Wrapper::serving(model);
    let served_as = model.file_stem().and_then(|stem| stem.to_str()).expect("the model has a name");
    for index in 0..3 {
        let file = |kind: &str| root().join(format!(".cache/golden/{name}-{index}.{kind}"));
        let described: Value =
            serde_json::from_slice(&fs::read(file("json")).expect("`make models` makes the golden files"))
                .expect("it is JSON");
        let input = fs::read(file("input")).expect("the input is there");
        let expected = fs::read(file("output")).expect("the output is there");

        let mut tensor = described["inputs"][0].clone();
        tensor["parameters"] = json!({"binary_data_size": input.len()});
        let request = json!({"id": format!("{index}"), "inputs": [tensor], "parameters": {"binary_data_output": true}});
        let json_part = serde_json::to_vec(&request).expect("it serializes");
        let headers = format!("inference-header-content-length: {}\r\n", json_part.len());
        let body = [json_part, input].concat();
        let (head, body) = wrapper.post(&format!("/v2/models/{served_as}/infer"), &headers, &body);
        assert!(head.starts_with("http/1.1 200"), "{head}\n{}", String::from_utf8_lossy(&body));

        let json_length = header_value(&head, "inference-header-content-length").expect("the answer is binary");
        let answer: Value = serde_json::from_slice(&body[..json_length]).expect("the answer's head is JSON");
        assert_eq!(answer["id"], format!("{index}"));
        let mut at = json_length;
        let mut expected_at = 0;
        for wanted in described["outputs"].as_array().expect("outputs are described") {
            let got = answer["outputs"]
                .as_array()
                .expect("there are outputs")
                .iter()
                .find(|output| output["name"] == wanted["name"])
                .expect("every output is answered");
            assert_eq!(got["shape"], wanted["shape"]);
            assert_eq!(got["datatype"], wanted["datatype"]);
            let datatype = wanted["datatype"].as_str().expect("a datatype is a string");
            let bytes = elements(wanted) * width(datatype);
            assert_eq!(got["parameters"]["binary_data_size"], bytes);
            assert_close(name, datatype, &body[at..at + bytes], &expected[expected_at..expected_at + bytes]);
            at += bytes;
            expected_at += bytes;
        }
        assert_eq!(at, body.len(), "nothing follows the last tensor");
    }
}

#[test]
fn digits_agree() {
    agrees_with_golden("digits", &root().join("examples/models/digits.onnx"));
}

#[test]
fn text_recognition_agrees() {
    agrees_with_golden("ppocr-rec", &root().join(".cache/models/ppocr-rec.onnx"));
}

#[test]
fn text_detection_agrees() {
    agrees_with_golden("ppocr-det", &root().join(".cache/models/ppocr-det.onnx"));
}

#[test]
fn resnet50_agrees() {
    agrees_with_golden("resnet50", &root().join(".cache/models/resnet50.onnx"));
}

#[test]
fn held_out_digits_are_recognised() {
    let models = root().join("examples/models");
    let held_out: Value =
        serde_json::from_slice(&fs::read(models.join("digits-heldout.json")).expect("it is committed"))
            .expect("it is JSON");
    let wrapper = Wrapper::serving(&models.join("digits.onnx"));
    let request = serde_json::to_vec(&json!({"instances": held_out["images"]})).expect("it serializes");
    let (head, body) = wrapper.post("/v1/models/digits:predict", "content-type: application/json\r\n", &request);
    assert!(head.starts_with("http/1.1 200"), "{head}\n{}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body).expect("the answer is JSON");
    let predictions = answer["predictions"].as_array().expect("there are predictions");
    let labels: Vec<&Value> = predictions.iter().map(|prediction| &prediction["label"]).collect();
    let expected: Vec<&Value> = held_out["label"].as_array().expect("labels are committed").iter().collect();
    assert_eq!(labels, expected);
    let probability = |of: &Value, row: usize, digit: usize| of[row][digit].as_f64().expect("a probability");
    for (row, prediction) in predictions.iter().enumerate() {
        for digit in 0..10 {
            let got = prediction["probabilities"][digit].as_f64().expect("a probability");
            let expected = probability(&held_out["probabilities"], row, digit);
            assert!((got - expected).abs() < f64::from(TOLERANCE), "row {row}, digit {digit}: {got}, {expected}");
        }
    }
}
