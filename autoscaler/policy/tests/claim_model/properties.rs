//! What must hold whatever happens.

use autoscaler_policy::claim::{Label, Lifecycle};
use stateright::{Model, Property};

use crate::model::{Action, ClaimModel, is_sweepable, waits_only_for_time};
use crate::world::{Leader, Pod, World};

pub(crate) fn all() -> Vec<Property<ClaimModel>> {
    vec![
        Property::always("a serving replica holds its owner's model", |_, world: &World| {
            world.addresses.iter().flatten().all(|pod| {
                pod.label != Label::Serving
                    || pod.lifecycle != Lifecycle::Ready
                    || pod.ownership.as_ref().zip(pod.holds.as_ref()).is_some_and(|(owner, (claim, revision))| {
                        owner.claim == *claim && owner.revision == *revision && !pod.failed
                    })
            })
        }),
        Property::always("no request runs on a replica not loaded for it", |_, world: &World| world.fault.is_none()),
        Property::always("at rest every owned replica serves and none is surplus", |model, world: &World| {
            !model.is_at_rest(world)
                || world.desired.iter().all(|(revision, replicas)| {
                    let owned = || {
                        world
                            .addresses
                            .iter()
                            .flatten()
                            .filter(|pod| pod.ownership.as_ref().is_some_and(|owner| owner.revision == *revision))
                    };
                    let serves = |pod: &Pod| {
                        pod.label == Label::Serving
                            && world.gateway.get(&pod.uid).is_some_and(|(published, ..)| published == revision)
                    };
                    owned().all(serves) && owned().count() <= *replicas as usize
                })
        }),
        Property::always("at rest no revision starves while warm replicas exist", |model, world: &World| {
            let warm = world.addresses.iter().flatten().any(|pod| pod.label == Label::Idle && pod.holds.is_none());
            !model.is_at_rest(world)
                || !warm
                || world.desired.iter().all(|(revision, replicas)| {
                    let published = world.gateway.values().filter(|(published, ..)| published == revision).count();
                    published >= *replicas as usize
                })
        }),
        Property::always("at rest the gateway sends only to serving replicas", |model, world: &World| {
            !model.is_at_rest(world)
                || world.gateway.keys().all(|uid| world.pod(uid).is_some_and(|pod| pod.label == Label::Serving))
        }),
        Property::always("what waits for time goes on when it passes", |model, world: &World| {
            let Some(leader) = &world.leader else { return true };
            let due = leader.state.next_wake().is_some() && model.safeguards.removals && world.fault.is_none();
            !(waits_only_for_time(leader) && due) || model.next_state(world, Action::Tick { deposed: false }).is_some()
        }),
        Property::sometimes("everything serves", |model, world: &World| {
            model.is_at_rest(world) && world.gateway.len() == world.desired.values().sum::<u32>() as usize
        }),
    ]
}

impl ClaimModel {
    /// Nothing is on its way and nothing is waited for.
    fn is_at_rest(&self, world: &World) -> bool {
        let at_rest = |leader: &Leader| {
            waits_only_for_time(leader) && (leader.state.next_wake().is_none() || !self.safeguards.removals)
        };
        let swept = world.addresses.iter().flatten().all(|pod| !is_sweepable(pod));
        world.leader.as_ref().is_some_and(at_rest) && world.deposed.is_none() && world.orphans.is_empty() && swept
    }
}
