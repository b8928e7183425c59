//! The device classes that a model can have a variant for.

use std::fmt;
use std::str::FromStr;

/// A device class. A model has at most one variant for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// Host processor cores.
    Cpu,
    /// A GPU or a fraction of one.
    Gpu,
}

impl Device {
    /// Every device class, cheapest first.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Gpu];

    /// The name as it stands in YAML, labels, metrics and the `kferving-device` header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }

    /// Cost of a replica for one second where its model says nothing. One CPU replica is the unit; a GPU's is the hourly
    /// price of a small inference GPU over that of the cores of one CPU replica, at the large clouds.
    #[must_use]
    pub const fn default_cost(self) -> f64 {
        match self {
            Self::Cpu => 1.0,
            Self::Gpu => 12.0,
        }
    }

    /// Position in [`Device::ALL`], for tables indexed by device.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text named no device class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseDeviceError(String);

impl fmt::Display for ParseDeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown device {:?}: expected cpu or gpu", self.0)
    }
}

impl std::error::Error for ParseDeviceError {}

impl FromStr for Device {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            other => Err(ParseDeviceError(other.to_owned())),
        }
    }
}
