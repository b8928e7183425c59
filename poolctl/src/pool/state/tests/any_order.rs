//! A small cluster: what the pool asks for happens, in any order, with crashes and claims between.

use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A creation shows on the watch before it is answered.
    Appear,
    Answer {
        refused: bool,
    },
    Ready(usize),
    Claim(usize),
    Crash(usize),
    Finish,
    Resize(u32),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Appear),
        3 => any::<bool>().prop_map(|refused| Step::Answer { refused }),
        3 => (0_usize..8).prop_map(Step::Ready),
        2 => (0_usize..8).prop_map(Step::Claim),
        1 => (0_usize..8).prop_map(Step::Crash),
        2 => Just(Step::Finish),
        1 => (0_u32..5).prop_map(Step::Resize),
        2 => (1_u64..2000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..120)
}

#[derive(Default)]
struct FakeCluster {
    replicas: BTreeMap<String, (ReplicaState, Lifecycle)>,
    creations: u32,
    unanswered: Vec<Replica>,
    made: u32,
    endings: Vec<ReplicaUid>,
}

impl FakeCluster {
    fn nth(&self, index: usize, wanted: impl Fn(&(ReplicaState, Lifecycle)) -> bool) -> Option<String> {
        let matching: Vec<_> = self.replicas.iter().filter(|(_, replica)| wanted(replica)).collect();
        (!matching.is_empty()).then(|| matching[index % matching.len()].0.clone())
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Create => self.creations += 1,
                Action::Retire(uid) | Action::Sweep(uid) => {
                    assert!(!self.endings.contains(&uid), "{uid} is ended twice");
                    self.endings.push(uid);
                }
            }
        }
    }

    fn set(&mut self, pool: &mut PoolState, uid: &str, (state, lifecycle): (ReplicaState, Lifecycle), now: Moment) {
        pool.applied(&replica(uid, state, lifecycle.clone()), now);
        self.replicas.insert(uid.to_owned(), (state, lifecycle));
    }

    /// Carries out the oldest retirement or sweep, as the controller does.
    fn finish(&mut self, pool: &mut PoolState) {
        if self.endings.is_empty() {
            return;
        }
        let uid = self.endings.remove(0);
        let state = self.replicas.get(&uid.0).map(|(state, _)| *state);
        if matches!(state, Some(ReplicaState::Idle | ReplicaState::Retired)) {
            self.replicas.remove(&uid.0);
            pool.deleted(&uid);
        }
        pool.settled(&uid);
    }

    fn make(&mut self) -> Replica {
        self.made += 1;
        let uid = format!("r{}", self.made);
        self.replicas.insert(uid.clone(), (ReplicaState::Idle, Lifecycle::Starting));
        replica(&uid, ReplicaState::Idle, Lifecycle::Starting)
    }

    fn appear(&mut self, pool: &mut PoolState, now: Moment) {
        if self.creations > 0 {
            self.creations -= 1;
            let made = self.make();
            pool.applied(&made, now);
            self.unanswered.push(made);
        }
    }

    fn answer(&mut self, pool: &mut PoolState, refused: bool, now: Moment) {
        if let Some(made) = self.unanswered.pop() {
            pool.created(Ok(made.uid), now);
        } else if self.creations > 0 {
            self.creations -= 1;
            if refused {
                pool.created(Err("refused".to_owned()), now);
            } else {
                let made = self.make();
                pool.created(Ok(made.uid.clone()), now);
                pool.applied(&made, now);
            }
        }
    }
}

proptest! {
    #[test]
    fn it_never_overfills_and_always_recovers(steps in steps()) {
        let mut pool = pool(3);
        let mut cluster = FakeCluster::default();
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Appear => cluster.appear(&mut pool, now),
                Step::Answer { refused } => cluster.answer(&mut pool, refused, now),
                Step::Ready(index) => {
                    if let Some(uid) = cluster.nth(index, |(_, lifecycle)| *lifecycle == Lifecycle::Starting) {
                        let state = cluster.replicas[&uid].0;
                        cluster.set(&mut pool, &uid, (state, ready()), now);
                    }
                }
                Step::Claim(index) => {
                    if let Some(uid) = cluster.nth(index, |replica| *replica == (ReplicaState::Idle, ready())) {
                        cluster.set(&mut pool, &uid, (ReplicaState::Claimed, ready()), now);
                    }
                }
                Step::Crash(index) => {
                    if let Some(uid) = cluster.nth(index, |(_, lifecycle)| *lifecycle != exited()) {
                        let state = cluster.replicas[&uid].0;
                        cluster.set(&mut pool, &uid, (state, exited()), now);
                    }
                }
                Step::Finish => cluster.finish(&mut pool),
                Step::Resize(size) => pool.resize(Sizing::exactly(size)),
                Step::Wait(millis) => now = now + Duration::from_millis(millis),
            }
            let before = pool.counts();
            let actions = pool.plan(now);
            let created = u32::try_from(actions.iter().filter(|action| **action == Action::Create).count()).unwrap();
            prop_assert!(created == 0 || before.idle + before.starting + created <= pool.size());
            prop_assert!(before.starting + created <= PACING.starting.max(before.starting));
            for action in &actions {
                if let Action::Retire(uid) | Action::Sweep(uid) = action {
                    prop_assert!(matches!(cluster.replicas[&uid.0].0, ReplicaState::Idle | ReplicaState::Retired));
                }
            }
            cluster.take(actions);
        }

        // left alone, it ends at its size
        for _ in 0..200 {
            now = pool.next_wake(now).unwrap_or(now + Duration::from_secs(1));
            let actions = pool.plan(now);
            cluster.take(actions);
            cluster.finish(&mut pool);
            cluster.answer(&mut pool, false, now);
            if let Some(uid) = cluster.nth(0, |replica| *replica == (ReplicaState::Idle, Lifecycle::Starting)) {
                cluster.set(&mut pool, &uid, (ReplicaState::Idle, ready()), now);
            }
        }
        prop_assert_eq!(pool.counts().idle, pool.size());
        prop_assert_eq!(pool.counts().starting, 0);
    }
}
