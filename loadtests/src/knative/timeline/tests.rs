use super::*;
use serde_json::json;
use std::time::UNIX_EPOCH;

fn at(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

fn pod(state: &serde_json::Value) -> Pod {
    let mut pod = json!({"metadata": {"labels": {"serving.knative.dev/service": "digits-0"}}});
    for (key, value) in state.as_object().unwrap() {
        match pod.get_mut(key) {
            Some(known) => known.as_object_mut().unwrap().extend(value.as_object().unwrap().clone()),
            None => pod[key] = value.clone(),
        }
    }
    serde_json::from_value(pod).unwrap()
}

fn conditions(met: &[&str]) -> serde_json::Value {
    let met: Vec<_> = met.iter().map(|condition| json!({"type": condition, "status": "True"})).collect();
    json!({"conditions": met, "podIP": "10.244.0.7"})
}

#[test]
fn each_mark_is_when_it_was_first_seen() {
    let mut times = PodTimes::default();
    let node = json!({"nodeName": "n", "containers": []});
    times.observe(&pod(&json!({"spec": {"containers": []}})), at(1));
    times.observe(&pod(&json!({"spec": node})), at(2));
    times.observe(&pod(&json!({"spec": node, "status": conditions(&["PodScheduled"])})), at(3));
    times.observe(&pod(&json!({"spec": node, "status": conditions(&["PodReadyToStartContainers"])})), at(4));
    assert!(!times.is_at_rest());
    times.observe(&pod(&json!({"spec": node, "status": conditions(&["PodReadyToStartContainers", "Ready"])})), at(5));
    assert!(times.is_at_rest());
    let ending = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": node});
    times.observe(&pod(&ending), at(6));
    assert!(!times.is_at_rest());
    let expected = PodTimes {
        service: "digits-0".to_owned(),
        created: Some(at(1)),
        scheduled: Some(at(2)),
        sandbox: Some(at(4)),
        ready: Some(at(5)),
        ip: Some("10.244.0.7".to_owned()),
        terminating: true,
    };
    assert_eq!(times, expected);
}

#[test]
fn the_parts_add_up_to_the_whole() {
    let times =
        PodTimes { created: Some(at(120)), scheduled: Some(at(130)), sandbox: Some(at(400)), ..PodTimes::default() };
    let wrapper = WrapperTimes { started: at(600), ready: at(700) };
    let parts = phases(at(100), at(1000), &times, wrapper).map(|(phase, time)| (phase, time.as_millis()));
    let expected = [20, 10, 270, 200, 100, 300];
    assert_eq!(parts.map(|(phase, _)| phase), PHASES);
    assert_eq!(parts.map(|(_, time)| time), expected);
    assert_eq!(expected.iter().sum::<u128>(), 900);
}

#[test]
fn a_mark_that_is_missing_or_late_gives_its_time_to_the_next() {
    let wrapper = WrapperTimes { started: at(600), ready: at(700) };
    let times = |sandbox| PodTimes { created: Some(at(150)), scheduled: None, sandbox, ..PodTimes::default() };
    let parts = |sandbox| phases(at(100), at(1000), &times(sandbox), wrapper).map(|(_, time)| time.as_millis());
    assert_eq!(parts(None), [50, 0, 0, 450, 100, 300]);
    // The watch told of the sandbox after the container's process had begun.
    assert_eq!(parts(Some(at(650))), [50, 0, 450, 0, 100, 300]);
}
