//! The rules, one method each. A rule that fails is noted and the checking goes on, so that people see every problem of
//! a resource at once.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use autoscaler_policy::Scaling;
use gateway_policy::parse_duration;

use crate::field::{FieldError, FieldPath};
use crate::model::{GpuVariant, ModelFormat, Resources};
use crate::quantity::{Amount, Quantity, parse_quantity};

use super::GpuShare;

/// A revision is named `MODEL-DEVICE-00001`, and that must fit into a label of 63 characters.
pub(super) const MAX_MODEL_NAME: usize = 53;
/// Threads of one runtime: beyond this none of its operators gets faster, and model servers refuse more.
const MAX_THREADS: u32 = 256;
/// Length of a DNS label.
pub(super) const MAX_NAME: usize = 63;

// The CRDs state these rules in CEL with the same words.
pub(super) const NO_VARIANT: &str = "at least one variant is required: cpu, gpu or both";
pub(super) const NO_STORAGE_URI: &str = "storageUri is required, here or in every variant";
pub(super) const REPLICA_BOUNDS: &str = "minReplicas must not be above maxReplicas";
pub(super) const POOL_BOUNDS: &str = "minSize must not be above maxSize";
pub(super) const ABOVE_ZERO: &str = "expected a duration above zero";

/// The problems found so far.
#[derive(Default)]
pub(super) struct Checks {
    errors: Vec<FieldError>,
}

impl Checks {
    pub(super) fn fail(&mut self, path: FieldPath, message: impl Into<String>) {
        let error = FieldError::new(path, message);
        // a rule about the whole model is checked once for each variant
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<FieldError>> {
        if self.errors.is_empty() { Ok(value) } else { Err(self.errors) }
    }

    pub(super) fn name(&mut self, name: &str, max: usize) {
        let path = FieldPath::of(&["metadata", "name"]);
        if name.is_empty() {
            self.fail(path, "expected a name, got nothing");
        } else if name.len() > max {
            self.fail(path, format!("expected at most {max} characters, got {}", name.len()));
        } else if !is_dns_label(name) {
            self.fail(path, dns_label_message(name));
        }
    }

    pub(super) fn namespace(&mut self, namespace: &str) {
        if let Err(message) = check_namespace(namespace) {
            self.fail(FieldPath::of(&["metadata", "namespace"]), message);
        }
    }

    pub(super) fn duration(&mut self, path: FieldPath, text: Option<&str>) -> Option<Duration> {
        parse_duration(text?).map_err(|error| self.fail(path, error.to_string())).ok()
    }

    pub(super) fn positive_duration(&mut self, path: FieldPath, text: Option<&str>) -> Option<Duration> {
        let duration = self.duration(path.clone(), text)?;
        if duration.is_zero() {
            self.fail(path, ABOVE_ZERO);
        }
        Some(duration)
    }

    pub(super) fn integer(&mut self, path: FieldPath, value: Option<i32>, range: RangeInclusive<u32>) -> Option<u32> {
        let value = value?;
        let number = u32::try_from(value).ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.fail(path, format!("expected {} to {}, got {value}", range.start(), range.end()));
        }
        number
    }

    pub(super) fn cost(&mut self, path: FieldPath, value: Option<f64>) -> Option<f64> {
        let value = value?;
        if !(0.0..=1_000_000.0).contains(&value) {
            self.fail(path, format!("expected 0 to 1000000, got {value}"));
        }
        Some(value)
    }

    pub(super) fn format(&mut self, path: &FieldPath, written: Option<&str>, storage_uri: &str) -> Option<ModelFormat> {
        let choices = ModelFormat::ALL.map(ModelFormat::as_str).join(", ");
        match written {
            Some(written) => written
                .parse()
                .map_err(|()| self.fail(path.clone(), format!("expected one of {choices}, got {written:?}")))
                .ok(),
            None => ModelFormat::of_uri(storage_uri).or_else(|| {
                let message = format!(
                    "required, as the ending of storageUri {storage_uri:?} does not tell the format: one of {choices}"
                );
                self.fail(path.clone(), message);
                None
            }),
        }
    }

    pub(super) fn sha256(&mut self, path: FieldPath, text: &str) -> Option<String> {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(text.to_ascii_lowercase());
        }
        self.fail(path, format!("expected 64 hexadecimal digits, got {text:?}"));
        None
    }

    pub(super) fn quantity(&mut self, path: FieldPath, quantity: &Quantity) -> Option<Amount> {
        parse_quantity(&quantity.0).map_err(|error| self.fail(path, error.to_string())).ok()
    }

    /// Requests by name, and the number of threads that the cpu limit allows. As on Kubernetes, a limit without a
    /// request is the request too.
    pub(super) fn resources(
        &mut self,
        path: &FieldPath,
        resources: Option<&Resources>,
    ) -> (BTreeMap<String, Amount>, Option<u32>) {
        let (mut requests, mut threads) = (BTreeMap::new(), None);
        let Some(resources) = resources else { return (requests, threads) };
        for (name, request) in &resources.requests {
            if let Some(amount) = self.quantity(path.child("requests").child(name), request) {
                requests.insert(name.clone(), amount);
            }
        }
        for (name, limit) in &resources.limits {
            let Some(amount) = self.quantity(path.child("limits").child(name), limit) else { continue };
            let request = *requests.entry(name.clone()).or_insert(amount);
            if request > amount {
                let message = format!("expected at most the limit {limit}, got {}", resources.requests[name]);
                self.fail(path.child("requests").child(name), message);
            }
            if name == "cpu" {
                threads = Some(u32::try_from(amount.as_units()).unwrap_or(MAX_THREADS).clamp(1, MAX_THREADS));
            }
        }
        (requests, threads)
    }

    /// Annotations of Knative's autoscaler mean on a model what they mean on a revision.
    pub(super) fn scaling(&mut self, annotations: Option<&BTreeMap<String, String>>) -> Scaling {
        let annotations = annotations.into_iter().flatten();
        let annotations = annotations.map(|(name, value)| (name.as_str(), value.as_str()));
        Scaling::default().with_annotations(annotations).unwrap_or_else(|error| {
            let path = FieldPath::of(&["metadata", "annotations", &error.annotation]);
            self.fail(path, format!("expected {}, got {:?}", error.expected, error.value));
            Scaling::default()
        })
    }

    pub(super) fn gpu_share(&mut self, path: &FieldPath, variant: &GpuVariant) -> GpuShare {
        let milli = match variant.fraction.as_deref() {
            None => 1000,
            Some(text) => {
                let milli = parse_quantity(text)
                    .ok()
                    .and_then(|amount| u16::try_from(amount.as_milli()).ok())
                    .filter(|milli| (1..=1000).contains(milli) && !text.contains(char::is_alphabetic));
                if milli.is_none() {
                    let message =
                        format!("expected a part of one GPU above 0 and up to 1, such as \"0.3\", got {text:?}");
                    self.fail(path.child("fraction"), message);
                }
                milli.unwrap_or(1000)
            }
        };
        let memory = variant.memory.as_ref().and_then(|memory| self.quantity(path.child("memory"), memory));
        GpuShare { milli, memory }
    }
}

/// Whether Kubernetes takes `namespace` as a name of one.
///
/// # Errors
/// What is expected instead.
pub fn check_namespace(namespace: &str) -> Result<(), String> {
    if namespace.len() > MAX_NAME || !is_dns_label(namespace) {
        return Err(dns_label_message(namespace));
    }
    Ok(())
}

/// RFC 1123 label, as Kubernetes asks of names that become labels or host names.
fn is_dns_label(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(alphanumeric) && name.ends_with(alphanumeric) && name.chars().all(|c| alphanumeric(c) || c == '-')
}

fn dns_label_message(name: &str) -> String {
    format!("expected lower-case letters, digits and '-', beginning and ending with a letter or digit, got {name:?}")
}
