//! What a revision itself says.

use super::*;

#[test]
fn limits_hold() {
    let bounded = Revision { min_replicas: 2, max_replicas: 4, ..revision("m", Device::Cpu) };
    let mut rig = Rig::new(std::slice::from_ref(&bounded));
    assert_eq!(rig.tick(at(0)), only("m", Device::Cpu, 2));
    assert_eq!(rig.why("m", Device::Cpu, at(0)), Why::Minimum);
    rig.report(&[load("m", 500.0, 100)], at(1000));
    assert_eq!(rig.tick(at(1000)), only("m", Device::Cpu, 4));
    let annotated = Scaling { max_scale: 3, activation_scale: 2, ..bounded.scaling.clone() };
    let mut rig = Rig::new(&[Revision { min_replicas: 0, scaling: annotated, ..bounded }]);
    rig.tick(at(0));
    rig.report(&[load("m", 1.0, 100)], at(1000));
    assert_eq!(rig.tick(at(1000)), only("m", Device::Cpu, 2), "activation scale");
    rig.report(&[load("m", 500.0, 200)], at(2000));
    assert_eq!(rig.tick(at(2000)), only("m", Device::Cpu, 3), "max-scale");
}

#[test]
fn the_newest_revision_gets_the_demand() {
    let newer = Revision { key: RevisionKey::from("ns/m-cpu-00002"), ..revision("m", Device::Cpu) };
    let mut rig = Rig::new(&[newer.clone(), revision("m", Device::Cpu)]);
    rig.report(&[load("m", 5.0, 100)], at(0));
    assert_eq!(rig.tick(at(0)), BTreeMap::from([(key("m", Device::Cpu), 0), (newer.key, 1)]));
}
