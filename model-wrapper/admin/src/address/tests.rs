use super::*;

fn parsed(text: &str) -> AdminAddress {
    text.parse().unwrap()
}

#[test]
fn each_form_is_read_and_written_the_same() {
    for text in ["127.0.0.1:8022", "[::1]:8022", "unix:/run/wrapper.sock", "unix:@model-wrapper/8080"] {
        assert_eq!(parsed(text).to_string(), text);
    }
    assert_eq!(parsed("unix:@a"), AdminAddress::Abstract("a".to_owned()));
    assert_eq!(parsed("unix:/a"), AdminAddress::Path("/a".into()));
}

#[test]
fn an_abstract_name_begins_with_nul_for_the_system() {
    assert_eq!(parsed("unix:@a").socket_path(), Some(PathBuf::from("\0a")));
    assert_eq!(parsed("unix:/a").socket_path(), Some(PathBuf::from("/a")));
    assert_eq!(parsed("127.0.0.1:1").socket_path(), None);
}

#[test]
fn who_else_can_reach_it() {
    for (text, local) in [
        ("127.0.0.1:1", true),
        ("[::1]:1", true),
        ("unix:/a", true),
        ("unix:@a", true),
        ("0.0.0.0:1", false),
        ("10.0.0.1:1", false),
    ] {
        assert_eq!(parsed(text).is_local(), local, "{text}");
    }
}

#[test]
fn what_is_no_address_is_named() {
    for text in ["", "8022", "localhost:8022", "unix:relative", "unix"] {
        let error = text.parse::<AdminAddress>().unwrap_err();
        assert_eq!(error, AddressError::Form(text.to_owned()), "{text}");
    }
    for text in ["unix:", "unix:@", "unix:@a\0b", &format!("unix:/{}", "a".repeat(107))] {
        assert_eq!(text.parse::<AdminAddress>(), Err(AddressError::Name(text.to_owned())));
    }
}
