//! Resource quantities, and whether a replica has enough of them for a variant.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Resources of a replica or of a variant, in thousandths of their unit (a core, a byte, a device).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resources(BTreeMap<Arc<str>, u64>);

/// A quantity that is not one of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantityError {
    resource: String,
    text: String,
}

impl std::fmt::Display for QuantityError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {:?} is not a quantity: expected a number with an optional suffix (m, k, M, G, T, P, Ki, Mi, Gi, Ti, Pi), such as 500m or 2Gi",
            self.resource, self.text
        )
    }
}

impl std::error::Error for QuantityError {}

impl Resources {
    /// Reads Kubernetes quantities, by resource name.
    ///
    /// # Errors
    /// Names the first resource whose quantity cannot be read, is negative, or does not fit in 64 bits of thousandths.
    pub fn parse<'a>(quantities: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, QuantityError> {
        let mut resources = BTreeMap::new();
        for (resource, text) in quantities {
            let amount = thousandths(text)
                .ok_or_else(|| QuantityError { resource: resource.to_owned(), text: text.to_owned() })?;
            resources.insert(Arc::from(resource), amount);
        }
        Ok(Self(resources))
    }

    /// The same as Kubernetes quantities, by resource name: [`Resources::parse`] of them gives these resources again.
    #[must_use]
    pub fn to_quantities(&self) -> BTreeMap<String, String> {
        let text =
            |amount: u64| if amount.is_multiple_of(1000) { (amount / 1000).to_string() } else { format!("{amount}m") };
        self.0.iter().map(|(resource, amount)| (resource.to_string(), text(*amount))).collect()
    }

    /// Whether a replica with these resources can serve a variant that asks for `need`.
    ///
    /// Cores and memory must be at least what is asked; a replica that states none of them is not limited in them.
    /// Extended resources (their names have a slash) are devices and must be equal: a model that asked for a third of a
    /// GPU must not hold a whole one.
    #[must_use]
    pub fn satisfies(&self, need: &Self) -> bool {
        let enough = need.0.iter().all(|(resource, amount)| match self.0.get(resource) {
            Some(have) if is_extended(resource) => have == amount,
            Some(have) => have >= amount,
            None => !is_extended(resource) || *amount == 0,
        });
        let extra_device = self
            .0
            .iter()
            .any(|(resource, amount)| is_extended(resource) && *amount > 0 && !need.0.contains_key(resource));
        enough && !extra_device
    }
}

fn is_extended(resource: &str) -> bool {
    resource.contains('/')
}

/// `None` for what is not a quantity, is negative or overflows. A fraction of a thousandth is rounded up, as Kubernetes does.
fn thousandths(text: &str) -> Option<u64> {
    const SUFFIXES: [(&str, u128); 11] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("", 1),
    ];
    let (number, unit_thousandths) = match text.strip_suffix('m') {
        Some(number) => (number, 1),
        None => SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|number| (number, factor * 1_000)))?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits_only = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    // 18 digits on each side of the point keep every product below 2^128.
    if whole.is_empty() && fraction.is_empty()
        || whole.len() > 18
        || fraction.len() > 18
        || !digits_only(whole)
        || !digits_only(fraction)
    {
        return None;
    }
    let value = |part: &str| if part.is_empty() { Some(0) } else { part.parse::<u128>().ok() };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let product = (value(whole)?.checked_mul(scale)? + value(fraction)?).checked_mul(unit_thousandths)?;
    u64::try_from(product.div_ceil(scale)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(quantities: &[(&str, &str)]) -> Resources {
        Resources::parse(quantities.iter().copied()).unwrap()
    }

    #[test]
    fn quantities_of_kubernetes() {
        for (text, expected) in [
            ("500m", 500),
            ("1", 1_000),
            ("0.5", 500),
            (".25", 250),
            ("2.", 2_000),
            ("0.0001", 1),
            ("1k", 1_000_000),
            ("256Mi", 256 * 1024 * 1024 * 1000),
            ("1.5Gi", 3 * 1024 * 1024 * 1024 / 2 * 1000),
        ] {
            assert_eq!(thousandths(text), Some(expected), "{text}");
        }
        for text in ["", "m", "-1", "1e3x", "1 Gi", "Gi", ".", "1.2.3", "1Qi", "99999999999999999999", "16000Pi"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
        let error = Resources::parse([("memory", "2 GB")]).unwrap_err();
        assert!(error.to_string().starts_with("memory: \"2 GB\" is not a quantity"), "{error}");
    }

    #[test]
    fn quantities_survive_the_way_back() {
        let parsed = resources(&[("cpu", "1500m"), ("memory", "256Mi"), ("kferving.dev/gpu-share", "3")]);
        let written = parsed.to_quantities();
        assert_eq!(written["cpu"], "1500m");
        assert_eq!(written["kferving.dev/gpu-share"], "3");
        let again = written.iter().map(|(resource, quantity)| (resource.as_str(), quantity.as_str()));
        assert_eq!(Resources::parse(again), Ok(parsed));
    }

    #[test]
    fn a_replica_with_less_does_not_fit() {
        let need = resources(&[("cpu", "500m"), ("memory", "256Mi")]);
        assert!(resources(&[("cpu", "1"), ("memory", "256Mi")]).satisfies(&need));
        assert!(!resources(&[("cpu", "499m"), ("memory", "1Gi")]).satisfies(&need));
        assert!(resources(&[]).satisfies(&need), "no statement is no limit");
    }

    #[test]
    fn devices_must_be_equal() {
        let share = |n| resources(&[("kferving.dev/gpu-share", n)]);
        assert!(share("3").satisfies(&share("3")));
        assert!(!share("10").satisfies(&share("3")));
        assert!(!resources(&[]).satisfies(&share("3")));
        assert!(!share("3").satisfies(&resources(&[("cpu", "1")])), "a GPU is not spent on a CPU variant");
    }
}
