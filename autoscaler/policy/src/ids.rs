//! Names of the things that the policy decides about.
//!
//! They are shared strings: one is copied into every index, effect and reply, so a copy costs a reference count. They
//! compare and hash by content, so that a state which holds them can be compared in a model checker.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Identity of one replica (a pod, or a wrapper process), never reused.
    Uid
}

name! {
    /// Identity of one claim: of one replica for one revision.
    ClaimId
}

name! {
    /// A revision, as `NAMESPACE/REVISION`.
    RevisionKey
}

name! {
    /// Digest of a model, as `sha256:HEX`.
    Digest
}

name! {
    /// Identity of a gateway process.
    GatewayId
}

/// A model: its CPU and its GPU revision serve the same requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelKey {
    /// Namespace of the model.
    pub namespace: Arc<str>,
    /// Name of the model.
    pub name: Arc<str>,
}

impl ModelKey {
    /// The model `name` of `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: Arc::from(namespace), name: Arc::from(name) }
    }
}

impl fmt::Display for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
