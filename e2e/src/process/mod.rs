//! Child processes with a log each, whose end is noticed and named.
