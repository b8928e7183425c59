use super::*;

fn told(set: &[(&str, &str)], account: Option<&str>) -> anyhow::Result<Option<UserContainer>> {
    let set = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    UserContainer::told(set, || account.map(str::to_owned))
}

#[test]
fn it_is_one_where_port_is_set() {
    assert_eq!(told(&[("K_REVISION", "digits-00001")], None).unwrap(), None);
    assert_eq!(told(&[("PORT", "")], None).unwrap(), None);
    let alone = told(&[("PORT", "8080")], None).unwrap().unwrap();
    assert_eq!(alone, UserContainer { port: 8080, ..UserContainer::default() });
    assert_eq!(alone.revision(), None);
}

#[test]
fn its_revision_is_in_its_namespace() {
    let knative =
        [("PORT", "8080"), ("K_REVISION", "digits-00001"), ("K_CONFIGURATION", "digits"), ("K_SERVICE", "digits")];
    let known = told(&knative, Some("vision\n")).unwrap().unwrap();
    assert_eq!(known.revision().as_deref(), Some("vision/digits-00001"));
    assert_eq!((known.service.as_deref(), known.configuration.as_deref()), (Some("digits"), Some("digits")));
    let unplaced = told(&knative, None).unwrap().unwrap();
    assert_eq!(unplaced.revision().as_deref(), Some("digits-00001"));
    let set = [&knative[..], &[("KFERVING_NAMESPACE", "other")]].concat();
    assert_eq!(told(&set, Some("vision")).unwrap().unwrap().revision().as_deref(), Some("other/digits-00001"));
}

#[test]
fn a_port_that_is_none_is_named() {
    for port in ["http", "65536", "-1"] {
        let error = format!("{:#}", told(&[("PORT", port)], None).unwrap_err());
        assert!(error.contains("PORT must be a TCP port") && error.contains(port), "{error}");
    }
}
