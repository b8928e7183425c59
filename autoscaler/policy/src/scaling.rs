//! The knobs of scaling, with the names, meaning, defaults and limits of Knative's `autoscaling.knative.dev` annotations.

use std::fmt;
use std::time::Duration;

/// How demand becomes a number of replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// `target`: concurrency that one replica should have; none takes `container_concurrency` × utilization.
    pub target: Option<f64>,
    /// `target-utilization-percentage` as a fraction: how full a replica should be.
    pub utilization: f64,
    /// `window`: the stable window that demand is averaged over.
    pub stable_window: Duration,
    /// `panic-window-percentage` as a fraction of the stable window.
    pub panic_window: f64,
    /// `panic-threshold-percentage` as a factor: wanting this many times the ready replicas starts panic mode.
    pub panic_threshold: f64,
    /// `min-scale`: never fewer replicas; over the variant's own minimum.
    pub min_scale: u32,
    /// `max-scale`: never more replicas; 0 leaves the variant's own maximum.
    pub max_scale: u32,
    /// `activation-scale`: the least number of replicas when there are any.
    pub activation_scale: u32,
    /// `scale-down-delay`: demand must have been lower for this long.
    pub scale_down_delay: Duration,
    /// Knative's `max-scale-up-rate` (config-autoscaler): at most this factor of the ready replicas in one step.
    pub max_scale_up_rate: f64,
    /// Knative's `max-scale-down-rate` (config-autoscaler): at least one in this many of the ready replicas stays in one step.
    pub max_scale_down_rate: f64,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            target: None,
            utilization: 0.7,
            stable_window: Duration::from_secs(60),
            panic_window: 0.1,
            panic_threshold: 2.0,
            min_scale: 0,
            max_scale: 0,
            activation_scale: 1,
            scale_down_delay: Duration::ZERO,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
        }
    }
}

/// An annotation whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationError {
    /// The annotation, with its prefix.
    pub annotation: String,
    /// The value that it had.
    pub value: String,
    /// What would have been right.
    pub expected: &'static str,
}

impl fmt::Display for AnnotationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "annotation {} = {:?}: expected {}", self.annotation, self.value, self.expected)
    }
}

impl std::error::Error for AnnotationError {}

/// Prefix of the annotations.
pub const ANNOTATION_PREFIX: &str = "autoscaling.knative.dev/";

impl Scaling {
    /// The panic window as a time: Knative's least is one bucket of a second.
    #[must_use]
    pub fn panic_window(&self) -> Duration {
        self.stable_window.mul_f64(self.panic_window).max(Duration::from_secs(1))
    }

    /// Concurrency that one replica should have; never 0.
    ///
    /// Knative's rule: the target, or the hard limit, times the utilization; without either 100 requests (its
    /// `container-concurrency-target-default`). A soft target above the hard limit means the limit.
    #[must_use]
    pub fn target_concurrency(&self, container_concurrency: u32) -> f64 {
        /// Knative's default where nothing is set.
        const UNLIMITED_TARGET: f64 = 100.0;
        /// Knative's least target.
        const LEAST: f64 = 0.01;
        let limit = (container_concurrency > 0).then_some(f64::from(container_concurrency));
        let total = match (self.target, limit) {
            (Some(target), Some(limit)) => target.min(limit),
            (Some(target), None) => target,
            (None, Some(limit)) => limit,
            (None, None) => UNLIMITED_TARGET,
        };
        (total * self.utilization).max(LEAST)
    }

    /// Takes over what annotations set; those with another prefix are not looked at, those of another class's features
    /// (`class`, `metric`, `initial-scale` and the like) do not concern the number of replicas and are left alone.
    ///
    /// # Errors
    /// The first annotation with a value that Knative's validation would refuse, or a `min-scale` above the `max-scale`.
    pub fn with_annotations<'a>(
        mut self,
        annotations: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, AnnotationError> {
        for (annotation, value) in annotations {
            let Some(name) = annotation.strip_prefix(ANNOTATION_PREFIX) else { continue };
            self.set(name, value).map_err(|expected| AnnotationError {
                annotation: annotation.to_owned(),
                value: value.to_owned(),
                expected,
            })?;
        }
        if self.max_scale > 0 && self.min_scale > self.max_scale {
            return Err(AnnotationError {
                annotation: format!("{ANNOTATION_PREFIX}min-scale"),
                value: self.min_scale.to_string(),
                expected: "at most the max-scale",
            });
        }
        Ok(self)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "min-scale" | "minScale" => self.min_scale = whole(value, 0)?,
            "max-scale" | "maxScale" => self.max_scale = whole(value, 0)?,
            "activation-scale" => self.activation_scale = whole(value, 1)?,
            "target" => self.target = Some(number(value, 0.01, f64::from(u32::MAX), "a number of at least 0.01")?),
            "target-utilization-percentage" | "targetUtilizationPercentage" => {
                self.utilization = number(value, 1.0, 100.0, "a percentage from 1 to 100")? / 100.0;
            }
            "panic-window-percentage" | "panicWindowPercentage" => {
                self.panic_window = number(value, 1.0, 100.0, "a percentage from 1 to 100")? / 100.0;
            }
            "panic-threshold-percentage" | "panicThresholdPercentage" => {
                self.panic_threshold = number(value, 110.0, 1000.0, "a percentage from 110 to 1000")? / 100.0;
            }
            "window" => {
                let expected = "a duration in whole seconds from 6s to 1h";
                self.stable_window = duration(value, expected, 6, 3600)?;
            }
            "scale-down-delay" => {
                let expected = "a duration in whole seconds from 0s to 1h";
                self.scale_down_delay = duration(value, expected, 0, 3600)?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn whole(value: &str, least: u32) -> Result<u32, &'static str> {
    let expected = if least == 0 { "a whole number of at least 0" } else { "a whole number of at least 1" };
    value.parse().ok().filter(|number| *number >= least).ok_or(expected)
}

fn number(value: &str, least: f64, most: f64, expected: &'static str) -> Result<f64, &'static str> {
    value.parse().ok().filter(|number: &f64| (least..=most).contains(number)).ok_or(expected)
}

/// Go's duration syntax as far as whole hours, minutes and seconds go: `90s`, `1m30s`, `0`.
fn duration(value: &str, expected: &'static str, least: u64, most: u64) -> Result<Duration, &'static str> {
    let mut seconds = 0_u64;
    let mut rest = value;
    while !rest.is_empty() && rest != "0" {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or(expected)?;
        let amount: u64 = rest[..unit_at].parse().map_err(|_| expected)?;
        let factor = match rest.as_bytes()[unit_at] {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return Err(expected),
        };
        seconds = amount.checked_mul(factor).and_then(|part| seconds.checked_add(part)).ok_or(expected)?;
        rest = &rest[unit_at + 1..];
    }
    if value.is_empty() || !(least..=most).contains(&seconds) {
        return Err(expected);
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_mean_what_they_mean_in_knative() {
        let scaling = Scaling::default()
            .with_annotations([
                ("autoscaling.knative.dev/min-scale", "1"),
                ("autoscaling.knative.dev/max-scale", "3"),
                ("autoscaling.knative.dev/window", "1m30s"),
                ("autoscaling.knative.dev/target", "7.5"),
                ("autoscaling.knative.dev/target-utilization-percentage", "80"),
                ("autoscaling.knative.dev/panic-window-percentage", "20"),
                ("autoscaling.knative.dev/panic-threshold-percentage", "150"),
                ("autoscaling.knative.dev/scale-down-delay", "15s"),
                ("autoscaling.knative.dev/class", "kferving.dev"),
                ("example.com/window", "nonsense"),
            ])
            .unwrap();
        assert_eq!((scaling.min_scale, scaling.max_scale), (1, 3));
        assert_eq!(scaling.stable_window, Duration::from_secs(90));
        assert_eq!(scaling.panic_window(), Duration::from_secs(18));
        assert_eq!(scaling.panic_threshold, 1.5);
        assert_eq!(scaling.scale_down_delay, Duration::from_secs(15));
        assert_eq!(scaling.target_concurrency(10), 6.0);
    }

    #[test]
    fn a_bad_annotation_is_named() {
        for (name, value, expected) in [
            ("window", "5s", "a duration in whole seconds from 6s to 1h"),
            ("window", "60", "a duration in whole seconds from 6s to 1h"),
            ("min-scale", "-1", "a whole number of at least 0"),
            ("activation-scale", "0", "a whole number of at least 1"),
            ("target", "0", "a number of at least 0.01"),
            ("target", "NaN", "a number of at least 0.01"),
            ("panic-threshold-percentage", "100", "a percentage from 110 to 1000"),
        ] {
            let annotation = format!("{ANNOTATION_PREFIX}{name}");
            let error = Scaling::default().with_annotations([(annotation.as_str(), value)]).unwrap_err();
            assert_eq!((error.annotation.as_str(), error.expected), (annotation.as_str(), expected), "{value}");
        }
        let both = [("autoscaling.knative.dev/min-scale", "4"), ("autoscaling.knative.dev/max-scale", "3")];
        assert_eq!(Scaling::default().with_annotations(both).unwrap_err().expected, "at most the max-scale");
    }

    #[test]
    fn the_target_follows_the_hard_limit() {
        let scaling = Scaling::default();
        assert_eq!(scaling.target_concurrency(10), 7.0);
        assert_eq!(scaling.target_concurrency(0), 70.0);
        let soft = Scaling { target: Some(50.0), ..Scaling::default() };
        assert_eq!(soft.target_concurrency(10), 7.0);
    }
}
