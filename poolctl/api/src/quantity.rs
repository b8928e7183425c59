//! Kubernetes quantities: `500m`, `1`, `512Mi`, `2G`, `1e3`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a quantity such as 500m, 2, 512Mi or 1G, got {0:?}")]
pub struct QuantityError(String);

/// An exact amount, in thousandths of the unit (core, byte), rounded up as Kubernetes does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount {
    milli: u64,
}

impl Amount {
    /// The amount of whole units.
    #[must_use]
    pub const fn units(units: u32) -> Self {
        Self { milli: units as u64 * 1000 }
    }

    /// Thousandths: millicores of a cpu.
    #[must_use]
    pub const fn as_milli(self) -> u64 {
        self.milli
    }

    /// Whole units, rounded up: bytes of memory, or the cores that cover a fraction of one.
    #[must_use]
    pub const fn as_units(self) -> u64 {
        self.milli.div_ceil(1000)
    }
}

impl fmt::Display for Amount {
    /// The quantity in its simplest form: `2`, `500m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milli.is_multiple_of(1000) { write!(f, "{}", self.milli / 1000) } else { write!(f, "{}m", self.milli) }
    }
}

/// Suffix, and its factor as numerator and denominator.
const SUFFIXES: [(&str, i128, i128); 14] = [
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
    ("Ei", 1 << 60, 1),
    ("m", 1, 1000),
    ("k", 1_000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
    ("", 1, 1),
];

/// More digits than this are beyond every real amount, and would overflow the arithmetic.
const MAX_DIGITS: usize = 15;

/// Largest amount, in thousandths: a petabyte is beyond every replica.
const MAX_MILLI: i128 = 1_000_000_000_000_000_000 - 1;

/// Parses a quantity that is not negative.
///
/// # Errors
/// When the text does not follow Kubernetes' grammar, is negative, has more than 15 digits, or is 1P or more.
pub fn parse_quantity(text: &str) -> Result<Amount, QuantityError> {
    let refuse = || QuantityError(text.to_owned());
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = whole.len() + fraction.len();
    if digits == 0 || digits > MAX_DIGITS || fraction.contains('.') {
        return Err(refuse());
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().map_err(|_| refuse())?;
    let (numerator, denominator) = factor(suffix).ok_or_else(refuse)?;
    let denominator = denominator * 10_i128.pow(u32::try_from(fraction.len()).map_err(|_| refuse())?);
    let scaled = mantissa * numerator * 1000;
    let milli = scaled / denominator + i128::from(scaled % denominator != 0);
    let milli = u64::try_from(milli).ok().filter(|_| milli <= MAX_MILLI).ok_or_else(refuse)?;
    Ok(Amount { milli })
}

/// Factor of a suffix, a decimal exponent (`e3`, `E-2`) included.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    if let Some((_, numerator, denominator)) = SUFFIXES.iter().find(|(name, ..)| *name == suffix) {
        return Some((*numerator, *denominator));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_i128.pow(exponent.unsigned_abs().min(19));
    match exponent {
        -18..=-1 => Some((1, power)),
        0..=18 => Some((power, 1)),
        _ => None,
    }
}

/// A quantity as it stands in YAML and JSON, where Kubernetes allows a bare number as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(serde_json::Number),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::Text(text) => text,
            Either::Number(number) => number.to_string(),
        }))
    }
}

impl schemars::JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "pattern": r"^\+?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(([KMGTPE]i)|[mkMGTPE]|[eE][+-]?[0-9]+)?$",
            "x-kubernetes-int-or-string": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_kubernetes_parses() {
        for (text, milli) in [
            ("500m", 500),
            ("1", 1000),
            ("0.5", 500),
            (".5", 500),
            ("1.", 1000),
            ("256Mi", 268_435_456_000),
            ("1.5Gi", 1_610_612_736_000),
            ("2G", 2_000_000_000_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("5e-1", 500),
            ("999T", 999_000_000_000_000_000),
            ("0", 0),
            ("+1", 1000),
            ("0.0001", 1),
        ] {
            assert_eq!(parse_quantity(text).map(Amount::as_milli), Ok(milli), "{text}");
        }
        assert_eq!(parse_quantity("1500m").map(Amount::as_units), Ok(2));
        for (text, simplest) in [("1500m", "1500m"), ("2000m", "2"), ("1Ki", "1024"), ("0", "0")] {
            assert_eq!(parse_quantity(text).map(|amount| amount.to_string()).as_deref(), Ok(simplest));
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "-1",
            "1Kb",
            "Mi",
            "1 Gi",
            "1.2.3",
            "1e99",
            "1e-99",
            "0x10",
            "1234567890123456",
            "1e2147483648",
            "m",
            "1P",
            "1E",
        ] {
            assert!(parse_quantity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_quantities_too() {
        for (json, text) in [("1", "1"), ("0.5", "0.5"), ("\"500m\"", "500m")] {
            let quantity: Quantity = serde_json::from_str(json).expect("a quantity");
            assert_eq!(quantity.0, text);
        }
    }
}
