//! The claim lock: which claim holds this wrapper. It decides, as one step under one lock, what becomes of a specialize call.
//!
//! A wrapper is claimed at most once in its life. The lock is the second compare-and-swap of a claim: the first, on the
//! replica's label, may be lost or late, and this one says what really runs here.

/// Who holds the wrapper and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The claim's id.
    pub(super) id: String,
    /// NAMESPACE/REVISION
    pub(super) revision: String,
    /// `sha256:HEX`
    pub(super) digest: String,
}

/// What a specialize call has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds the wrapper now: load the model.
    Load,
    /// The same claim was here before: its outcome is the answer, once there is one.
    Join,
    /// Another holds it.
    Conflict,
}

/// The lock.
#[derive(Debug, Default)]
pub(super) struct ClaimLock {
    holder: Option<Claim>,
}

impl ClaimLock {
    /// A specialize call came.
    pub(super) fn request(&mut self, claim: &Claim) -> Verdict {
        match &self.holder {
            None => {
                self.holder = Some(claim.clone());
                Verdict::Load
            }
            Some(holder) if holder == claim => Verdict::Join,
            Some(_) => Verdict::Conflict,
        }
    }

    /// The claim that holds the wrapper.
    pub(super) fn holder(&self) -> Option<&Claim> {
        self.holder.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: &str, digest: &str) -> Claim {
        Claim { id: id.into(), revision: "ns/r".into(), digest: digest.into() }
    }

    #[test]
    fn the_first_claim_holds_it_for_good() {
        let mut lock = ClaimLock::default();
        assert_eq!(lock.request(&claim("a", "d")), Verdict::Load);
        assert_eq!(lock.request(&claim("a", "d")), Verdict::Join);
        assert_eq!(lock.request(&claim("b", "d")), Verdict::Conflict);
        assert_eq!(lock.request(&claim("a", "d")), Verdict::Join);
        assert_eq!(lock.holder(), Some(&claim("a", "d")));
    }

    #[test]
    fn one_claim_is_for_one_model() {
        let mut lock = ClaimLock::default();
        lock.request(&claim("a", "d"));
        assert_eq!(lock.request(&claim("a", "other")), Verdict::Conflict);
    }
}
