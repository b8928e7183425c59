//! Request size classes.

/// A request's size class, by its body length.
///
/// Service time depends on the size of the input, and the body length is all that the gateway knows of it: it never
/// parses tensors. Classes grow by a factor of four, so that a class's mean is off by at most two and a model × device
/// table stays at [`SizeBucket::COUNT`] cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeBucket(u8);

impl SizeBucket {
    /// How many classes there are.
    pub const COUNT: usize = 10;

    /// Bodies up to this many bytes are in the first class.
    const FIRST_LIMIT_BYTES: u64 = 1024;

    /// The class of a body of `bytes` bytes: up to 1 KiB, 4 KiB, 16 KiB, … 64 MiB, and above.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        let mut limit = Self::FIRST_LIMIT_BYTES;
        let mut index = 0;
        while bytes > limit && usize::from(index) < Self::COUNT - 1 {
            limit *= 4;
            index += 1;
        }
        Self(index)
    }

    /// The class with this index; `None` at [`SizeBucket::COUNT`] and above.
    #[must_use]
    pub fn from_index(index: usize) -> Option<Self> {
        (index < Self::COUNT).then(|| Self(u8::try_from(index).unwrap_or(u8::MAX)))
    }

    /// Position in a table of [`SizeBucket::COUNT`] cells.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_belong_to_the_lower_class() {
        assert_eq!(SizeBucket::of(0).index(), 0);
        assert_eq!(SizeBucket::of(1024).index(), 0);
        assert_eq!(SizeBucket::of(1025).index(), 1);
        assert_eq!(SizeBucket::of(600 * 1024).index(), 5);
        assert_eq!(SizeBucket::of(u64::MAX).index(), SizeBucket::COUNT - 1);
        assert_eq!(SizeBucket::from_index(SizeBucket::COUNT), None);
    }
}
