//! Names of models.

/// A name that no path could hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a model's name is not empty and has no '/', '?', '#' or control character, got '{name}'", name = .0.escape_debug())]
pub struct NameError(String);

/// Refuses a name that no path could hold.
///
/// # Errors
/// It is such a name.
pub fn check_model_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.contains(['/', '?', '#']) || name.chars().any(char::is_control) {
        Err(NameError(name.to_owned()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_path_could_hold_is_refused() {
        for name in ["", "a/b", "a?", "a#", "a\n"] {
            assert_eq!(check_model_name(name), Err(NameError(name.to_owned())));
        }
        assert_eq!(check_model_name("Größe 2"), Ok(()));
    }
}
