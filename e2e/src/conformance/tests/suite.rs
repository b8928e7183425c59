use super::super::suite::{Selection, Suite, Target};
use super::names;

fn target(endpoint: Option<&str>) -> Target {
    Target { ingress_class: "a.class".into(), ingress_endpoint: endpoint.map(str::to_owned) }
}

#[test]
fn test_functions_are_chosen_by_go() {
    let suite = Suite::ServingApi;
    let select = |pattern: Option<&str>, but: &[&str]| {
        suite.select(&Selection::AllBut { pattern: pattern.map(str::to_owned), but: names(but) })
    };
    assert_eq!(select(None, &[]), [""; 0]);
    assert_eq!(select(None, &["TestB", "TestA"]), ["-test.skip=^(TestA|TestB)$"]);
    assert_eq!(select(Some("Route"), &["TestA"]), ["-test.run=Route", "-test.skip=^(TestA)$"]);
    assert_eq!(suite.select(&Selection::Only(names(&["TestA", "TestB"]))), ["-test.run=^(TestA|TestB)$"]);
}

#[test]
fn cases_with_slashes_are_left_out_by_their_whole_name() {
    let suite = Suite::Ingress;
    let but = names(&["TestIngressConformance/basics", "TestIngressConformance/dispatch/rule"]);
    assert_eq!(
        suite.select(&Selection::AllBut { pattern: None, but: but.clone() }),
        ["-test.run=^TestIngressConformance$", "--skip-tests=basics,dispatch/rule"],
        "basics/http2 still runs"
    );
    assert_eq!(
        suite.select(&Selection::AllBut { pattern: Some("^grpc$".into()), but: names(&[]) }),
        ["-test.run=^TestIngressConformance$/^grpc$"]
    );
    assert_eq!(
        suite.select(&Selection::Only(but)),
        ["-test.run=^TestIngressConformance$/^basics$|^TestIngressConformance$/^dispatch$/^rule$"]
    );
}

#[test]
fn suites_get_their_flags_in_their_own_words() {
    let ingress = Suite::Ingress.arguments(&target(Some("10.99.0.2"))).join(" ");
    assert_eq!(
        ingress,
        "--dockerrepo dev.local/networking-tests --tag v1 --enable-alpha --enable-beta --ingressClass a.class \
         --ingressendpoint 10.99.0.2"
    );
    let serving = Suite::ServingRuntime.arguments(&target(None)).join(" ");
    assert_eq!(
        serving,
        "--dockerrepo dev.local/serving-tests --tag v1 --enable-alpha --enable-beta --ingress-class a.class"
    );
}

#[test]
fn a_case_is_bounded_well_below_the_suites_own_waits() {
    for suite in [Suite::Ingress, Suite::ServingApi, Suite::ServingRuntime, Suite::ServingE2e, Suite::Ha] {
        let bounds = suite.bounds();
        assert!(bounds.waiting_case <= bounds.case && bounds.case < bounds.suite, "{suite:?}");
        assert!(bounds.case.as_secs() <= 600, "{suite:?}: the suites give up after ten minutes");
    }
}
