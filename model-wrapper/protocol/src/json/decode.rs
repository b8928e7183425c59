//! From JSON text to elements.

use std::{borrow::Cow, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use half::f16;
use serde::Deserialize;

use super::walk::{Nesting, shorten, walk};
use crate::{DataType, InferError, Limits, TensorData};

/// The shortest scalar and its comma: more elements than this many bytes allow cannot come.
const SHORTEST: usize = 2;

/// Elements of the array `text`, with the nesting that it had. It stops at `at_most` elements.
pub(crate) fn decode(
    name: &str,
    datatype: DataType,
    text: &str,
    at_most: usize,
    limits: &Limits,
) -> Result<(TensorData, Nesting), InferError> {
    let source = Source { name, datatype, text, at_most, max_depth: limits.max_dims };
    match datatype {
        DataType::Bool => source.fixed(|token| match token {
            "true" | "1" => Some([1]),
            "false" | "0" => Some([0]),
            _ => None,
        }),
        DataType::Uint8 => source.integers(u8::to_le_bytes),
        DataType::Uint16 => source.integers(u16::to_le_bytes),
        DataType::Uint32 => source.integers(u32::to_le_bytes),
        DataType::Uint64 => source.integers(u64::to_le_bytes),
        DataType::Int8 => source.integers(i8::to_le_bytes),
        DataType::Int16 => source.integers(i16::to_le_bytes),
        DataType::Int32 => source.integers(i32::to_le_bytes),
        DataType::Int64 => source.integers(i64::to_le_bytes),
        DataType::Fp16 => source.fixed(|token| {
            let value = half(number::<f64>(token)?);
            value.is_finite().then(|| value.to_le_bytes())
        }),
        DataType::Fp32 => {
            source.fixed(|token| number::<f32>(token).filter(|value| value.is_finite()).map(f32::to_le_bytes))
        }
        DataType::Fp64 => {
            source.fixed(|token| number::<f64>(token).filter(|value| value.is_finite()).map(f64::to_le_bytes))
        }
        DataType::Bf16 => Err(InferError::input(name, "binary data: BF16 has no JSON form", "JSON data")),
        DataType::Bytes => source.strings(limits.max_strings),
    }
}

/// The nearest FP16. Both the processor's conversion and the library's round twice, or drop the low half of the number first,
/// and so take what is next to a tie for one; rounded to odd on the way, what is inexact stays so.
///
/// Source: Boldo and Melquiond, "Emulation of a FMA and correctly-rounded sums: proved algorithms using rounding to odd",
/// IEEE Transactions on Computers 57(4), 2008.
fn half(value: f64) -> f16 {
    let near = value as f32;
    let even_though_inexact = f64::from(near) != value && near.to_bits().is_multiple_of(2);
    let odd = match f64::from(near).abs() < value.abs() {
        _ if !even_though_inexact => near,
        true => f32::from_bits(near.to_bits() + 1),
        false => f32::from_bits(near.to_bits() - 1),
    };
    f16::from_f32(odd)
}

/// A flat array of at most `at_most` integers; `what` is what errors call it.
pub(crate) fn integers(name: &str, what: &str, text: &str, at_most: usize) -> Result<Vec<usize>, InferError> {
    let mut values = Vec::new();
    let nesting = walk(name, text, 1, |index, token| {
        if index == at_most {
            return Err(InferError::input(name, format!("at most {at_most} dimensions"), "more"));
        }
        // Runtimes count in i64.
        let value = token.parse::<i64>().ok().and_then(|value| usize::try_from(value).ok()).ok_or_else(|| {
            InferError::input(
                name,
                format!("a {what} of integers from 0 to {}", i64::MAX),
                format!("{} at {index}", shorten(token)),
            )
        })?;
        values.push(value);
        Ok(())
    })?;
    debug_assert_eq!(nesting.elements, values.len());
    Ok(values)
}

/// The number that `token` writes. JSON's literals are no numbers, though Rust would read `inf`.
fn number<T: FromStr>(token: &str) -> Option<T> {
    token.as_bytes().first().filter(|first| first.is_ascii_digit() || **first == b'-')?;
    token.parse().ok()
}

struct Source<'a> {
    name: &'a str,
    datatype: DataType,
    text: &'a str,
    at_most: usize,
    max_depth: usize,
}

impl Source<'_> {
    fn integers<T: FromStr, const WIDTH: usize>(
        &self,
        to_bytes: impl Fn(T) -> [u8; WIDTH],
    ) -> Result<(TensorData, Nesting), InferError> {
        self.fixed(|token| number(token).map(&to_bytes))
    }

    fn fixed<const WIDTH: usize>(
        &self,
        parse: impl Fn(&str) -> Option<[u8; WIDTH]>,
    ) -> Result<(TensorData, Nesting), InferError> {
        let mut data = Vec::with_capacity(self.capacity() * WIDTH);
        let nesting = walk(self.name, self.text, self.max_depth, |index, token| {
            self.bound(index)?;
            let element = parse(token).ok_or_else(|| self.wrong(index, token))?;
            data.extend_from_slice(&element);
            Ok(())
        })?;
        Ok((TensorData::Fixed(data.into()), nesting))
    }

    fn strings(&self, max_strings: usize) -> Result<(TensorData, Nesting), InferError> {
        let mut data = Vec::new();
        let nesting = walk(self.name, self.text, self.max_depth, |index, token| {
            self.bound(index)?;
            if index == max_strings {
                return Err(InferError::input(
                    self.name,
                    format!("at most {max_strings} elements of type BYTES"),
                    "more",
                ));
            }
            data.push(byte_string(token).ok_or_else(|| self.wrong(index, token))?);
            Ok(())
        })?;
        Ok((TensorData::Strings(data), nesting))
    }

    fn capacity(&self) -> usize {
        self.at_most.min(self.text.len() / SHORTEST)
    }

    fn bound(&self, index: usize) -> Result<(), InferError> {
        if index < self.at_most {
            return Ok(());
        }
        Err(InferError::input(self.name, format!("{} elements, as its shape says", self.at_most), "more"))
    }

    #[cold]
    fn wrong(&self, index: usize, token: &str) -> InferError {
        let expected = match self.datatype {
            DataType::Bool => "a BOOL (true or false)".to_owned(),
            DataType::Bytes => "a string for BYTES".to_owned(),
            DataType::Fp16 | DataType::Fp32 | DataType::Fp64 => format!("a number in the range of {}", self.datatype),
            integer => format!("an integer in the range of {integer}"),
        };
        InferError::InvalidInput {
            tensor: format!("input '{}', element {index}", self.name),
            expected,
            got: shorten(token),
        }
    }
}

/// A JSON string, or TensorFlow Serving's form of one that is not text: `{"b64": "…"}`.
fn byte_string(token: &str) -> Option<Bytes> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Encoded<'a> {
        #[serde(borrow)]
        b64: Cow<'a, str>,
    }
    match token.as_bytes().first()? {
        b'"' => Some(serde_json::from_str::<String>(token).ok()?.into()),
        b'{' => {
            let encoded: Encoded<'_> = serde_json::from_str(token).ok()?;
            Some(STANDARD.decode(encoded.b64.as_bytes()).ok()?.into())
        }
        _ => None,
    }
}
