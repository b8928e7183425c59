//! Requests of the Open Inference Protocol V2 for whatever a model takes.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;

use crate::http1::{self, Connection, Keep};

/// What stands for extents that vary, in their order, with 1 beyond: one row, then height and width of a printed line.
const VARYING: [usize; 3] = [1, 48, 320];

/// Largest tensor that is drawn: what a server says of itself is not trusted with memory.
const MAX_ELEMENTS: usize = 16 << 20;

/// How tensors travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Encoding {
    /// Numbers as JSON.
    Json,
    /// Little-endian bytes behind a JSON head, the binary tensor extension.
    Binary,
}

/// One input with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Name.
    pub name: String,
    /// Extents.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f32>,
}

/// An inference of a model whose inputs are all FP32.
#[derive(Clone, Debug, PartialEq)]
pub struct Inference {
    model: String,
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Metadata {
    inputs: Vec<InputSpec>,
}

/// An input as a model's V2 metadata describes it.
#[derive(Clone, Debug, Deserialize)]
pub struct InputSpec {
    /// Name.
    pub name: String,
    /// Element type, as `FP32`.
    pub datatype: String,
    /// Extents, -1 where they vary.
    pub shape: Vec<i64>,
}

impl Inference {
    /// Asks the server at `addr` what `model` takes and draws it.
    ///
    /// # Errors
    /// The server does not answer, or the model takes something other than FP32 tensors.
    pub async fn for_model(addr: SocketAddr, model: &str, seed: u64) -> anyhow::Result<Self> {
        let path = format!("/v2/models/{model}");
        let answer = Connection::open(addr).await?.exchange(&http1::get(&addr.to_string(), &path), Keep::Body).await?;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != 200 {
            bail!("http://{addr}{path} answered {}: {text}", answer.status);
        }
        Self::from_metadata(model, &text, seed).with_context(|| format!("http://{addr}{path}"))
    }

    /// Draws an inference for a V2 metadata answer.
    ///
    /// # Errors
    /// It is not metadata, or as [`Inference::draw`].
    pub fn from_metadata(model: &str, metadata: &str, seed: u64) -> anyhow::Result<Self> {
        let metadata: Metadata = serde_json::from_str(metadata).context("reading the model's metadata")?;
        Self::draw(model, metadata.inputs, seed)
    }

    /// Draws values between 0 and 1, one row of them, equal for equal seeds.
    ///
    /// # Errors
    /// An input is not FP32 or too large.
    pub fn draw(model: &str, specs: impl IntoIterator<Item = InputSpec>, seed: u64) -> anyhow::Result<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut inputs = Vec::new();
        for InputSpec { name, datatype, shape } in specs {
            if datatype != "FP32" {
                bail!("input {name} is {datatype}; only FP32 inputs are drawn");
            }
            let mut varying = VARYING.into_iter().chain(std::iter::repeat(1));
            let extent = |extent: &i64| usize::try_from(*extent).ok().or_else(|| varying.next()).unwrap_or(1);
            let shape: Vec<usize> = shape.iter().map(extent).collect();
            let elements = shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
            let Some(elements) = elements.filter(|elements| *elements <= MAX_ELEMENTS) else {
                bail!("input {name} of shape {shape:?} has more than {MAX_ELEMENTS} elements");
            };
            let values = (0..elements).map(|_| random.random::<f32>()).collect();
            inputs.push(Input { name, shape, values });
        }
        Ok(Self { model: model.to_owned(), inputs })
    }

    /// Its inputs.
    #[must_use]
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The HTTP request. Outputs come back in the same encoding.
    #[must_use]
    pub fn request(&self, host: &str, encoding: Encoding, headers: &[(&str, &str)]) -> Bytes {
        let path = format!("/v2/models/{}/infer", self.model);
        let head_length;
        let mut headers = headers.to_vec();
        let body = match encoding {
            Encoding::Json => {
                headers.push(("content-type", "application/json"));
                self.json().into_bytes()
            }
            Encoding::Binary => {
                let (head, tensors) = self.binary();
                head_length = head.len().to_string();
                headers.push(("content-type", "application/octet-stream"));
                headers.push(("inference-header-content-length", &head_length));
                [head.into_bytes(), tensors].concat()
            }
        };
        http1::post(host, &path, &headers, &body)
    }

    fn json(&self) -> String {
        let inputs: Vec<_> = self
            .inputs
            .iter()
            .map(|input| {
                serde_json::json!({"name": input.name, "datatype": "FP32", "shape": input.shape, "data": input.values})
            })
            .collect();
        serde_json::json!({ "inputs": inputs }).to_string()
    }

    fn binary(&self) -> (String, Vec<u8>) {
        let mut tensors = Vec::new();
        let mut inputs = Vec::new();
        for input in &self.inputs {
            let parameters = serde_json::json!({"binary_data_size": input.values.len() * size_of::<f32>()});
            inputs.push(serde_json::json!(
                {"name": input.name, "datatype": "FP32", "shape": input.shape, "parameters": parameters}
            ));
            tensors.extend(input.values.iter().flat_map(|value| value.to_le_bytes()));
        }
        let head = serde_json::json!({"inputs": inputs, "parameters": {"binary_data_output": true}}).to_string();
        (head, tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str =
        r#"{"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}], "outputs": []}"#;

    fn body(encoding: Encoding) -> (String, Vec<u8>) {
        let request = Inference::from_metadata("m", METADATA, 5).unwrap().request("h", encoding, &[("x-a", "1")]);
        let end = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        (String::from_utf8(request[..end].to_vec()).unwrap(), request[end..].to_vec())
    }

    #[test]
    fn json_holds_the_drawn_values() {
        let (head, body) = body(Encoding::Json);
        assert!(head.starts_with("POST /v2/models/m/infer HTTP/1.1\r\n") && head.contains("x-a: 1\r\n"), "{head}");
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["inputs"][0]["shape"], serde_json::json!([1, 2]));
        let drawn = Inference::from_metadata("m", METADATA, 5).unwrap();
        assert_eq!(json["inputs"][0]["data"].as_array().unwrap().len(), drawn.inputs()[0].values.len());
        assert!(drawn.inputs()[0].values.iter().all(|value| (0.0..1.0).contains(value)));
    }

    #[test]
    fn binary_tensors_follow_the_head_that_tells_their_size() {
        let (head, body) = body(Encoding::Binary);
        let length: usize = head
            .split("inference-header-content-length: ")
            .nth(1)
            .unwrap()
            .split('\r')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body[..length]).unwrap();
        assert_eq!(json["inputs"][0]["parameters"]["binary_data_size"], 8);
        assert_eq!(body.len() - length, 8);
    }

    #[test]
    fn extents_that_vary_are_those_of_a_printed_line() {
        let metadata = METADATA.replace("[-1, 2]", "[-1, 3, -1, -1]");
        let drawn = Inference::from_metadata("m", &metadata, 5).unwrap();
        assert_eq!(drawn.inputs()[0].shape, [1, 3, 48, 320]);
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let draw = |datatype, shape| {
            let metadata = format!(r#"{{"inputs": [{{"name": "x", "datatype": "{datatype}", "shape": {shape}}}]}}"#);
            format!("{:#}", Inference::from_metadata("m", &metadata, 1).unwrap_err())
        };
        assert!(draw("BYTES", "[1]").contains("only FP32"));
        assert!(draw("FP32", "[1, 9000000000, 9000000000]").contains("more than"));
    }
}
