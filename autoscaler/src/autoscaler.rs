//! The handle that everything else uses, and the loop that leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use autoscaler_policy::claim::Event;
use autoscaler_policy::{ModelKey, Revision};
use futures::StreamExt;
use gateway_policy::Moment;
use model_wrapper_admin::{AdminClient, Timeouts, TokenSigner};
use parking_lot::Mutex;
use poolctl_cluster::Cluster;
use poolctl_runtime::{Clock, Shutdown};
use prometheus::Registry;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admin::ReplicaAdmin;
use crate::effects::{Effects, incarnation};
use crate::explain::ScaleExplanation;
use crate::leader::{Leader, Task};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::status::{self, AutoscalerStatus};

/// Decides how many replicas each revision has, claims them and tells gateways of them. Clones share one state.
///
/// It leads while [`Autoscaler::run`] runs; gateways that connect before or after are sent away and come back.
pub struct Autoscaler<C, A = AdminClient> {
    shared: Arc<Shared<C, A>>,
}

impl<C, A> Clone for Autoscaler<C, A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

pub(crate) struct Shared<C, A> {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    effects: Arc<Effects<C, A>>,
    revisions: Mutex<Vec<Arc<Revision>>>,
    lead: Mutex<Option<Term>>,
    terms: AtomicU64,
    /// The loop must look at the next moment to wake at: it may have come closer.
    wake: Notify,
}

/// One term of leadership.
struct Term {
    number: u64,
    leader: Leader,
    /// Ends what the term has under way: a deposed leader must not go on writing.
    over: CancellationToken,
    next_wake: Option<Moment>,
}

impl<C: Cluster> Autoscaler<C> {
    /// An autoscaler for the replicas of `cluster`, whose wrappers trust `claim_signer`.
    ///
    /// # Errors
    /// `registry` already holds metrics of these names.
    pub fn new(
        cluster: C,
        settings: Settings,
        claim_signer: TokenSigner,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        // The effect's own deadline is the shorter one; this only bounds a claim deadline that was set beyond all reason.
        let timeouts = Timeouts { specialize: settings.claims.claim_deadline, ..Timeouts::default() };
        Self::with_admin(cluster, AdminClient::new(timeouts), settings, claim_signer, registry)
    }
}

impl<C: Cluster, A: ReplicaAdmin> Autoscaler<C, A> {
    /// As [`Autoscaler::new`], with another way to the admin ports of the replicas.
    ///
    /// # Errors
    /// `registry` already holds metrics of these names.
    pub fn with_admin(
        cluster: C,
        admin: A,
        settings: Settings,
        claim_signer: TokenSigner,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let clock = Clock::start();
        let metrics = Metrics::register(registry, settings.limits)?;
        let effects = Effects::new(cluster, admin, claim_signer, (&settings, clock, metrics.clone()));
        Ok(Self {
            shared: Arc::new(Shared {
                settings,
                clock,
                metrics,
                effects: Arc::new(effects),
                revisions: Mutex::default(),
                lead: Mutex::default(),
                terms: AtomicU64::new(0),
                wake: Notify::new(),
            }),
        })
    }

    /// Replaces the whole table of revisions, atomically. The same table again changes nothing.
    pub fn set_revisions(&self, revisions: Vec<Revision>) {
        let revisions: Vec<_> = revisions.into_iter().map(Arc::new).collect();
        // Kept for the next term; set under its lock, so that a term never begins with an older table than it is given.
        let mut table = self.shared.revisions.lock();
        table.clone_from(&revisions);
        self.shared.lead(|leader, tasks| leader.set_revisions(revisions, tasks));
    }

    /// Leads until `shutdown`: follows the cluster, scales, claims. Effects that are under way then are given up; a
    /// later leader finds what became of them in the cluster. Called again while it runs, it begins a new term.
    pub async fn run(&self, shutdown: Shutdown) {
        let over = CancellationToken::new();
        let _ended = over.clone().drop_guard();
        let number = self.shared.terms.fetch_add(1, Ordering::Relaxed);
        let mut watch = self.shared.effects.cluster().watch();
        {
            let revisions = self.shared.revisions.lock();
            let incarnation = incarnation(&self.shared.settings.identity);
            let Shared { settings, clock, metrics, .. } = &*self.shared;
            let leader = Leader::new(&incarnation, settings, *clock, metrics.clone());
            let term = Term { number, leader, over, next_wake: None };
            *self.shared.lead.lock() = Some(term);
            self.shared.lead_in(Some(number), |leader, tasks| leader.set_revisions(revisions.clone(), tasks));
        }
        let _deposed = Deposed { shared: &self.shared, number };

        let requested = shutdown.requested();
        tokio::pin!(requested);
        let mut tick = tokio::time::interval(self.shared.settings.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let woken = self.shared.next_wake();
            tokio::select! {
                () = &mut requested => return,
                event = watch.next() => match event {
                    Some(event) => {
                        self.shared.lead_in(Some(number), |leader, tasks| leader.observe(event, tasks));
                    }
                    None => {
                        tracing::info!("the cluster has ended: nothing is left to lead");
                        return;
                    }
                },
                _ = tick.tick() => self.shared.tick(number).await,
                () = woken => {
                    self.shared.lead_in(Some(number), |leader, tasks| leader.apply(Event::Tick, tasks));
                }
                () = self.shared.wake.notified() => {}
            }
        }
    }

    /// What is wanted and why, what there is, and what went wrong, for people and `poolctl`.
    #[must_use]
    pub fn status(&self) -> AutoscalerStatus {
        let Shared { clock, metrics, .. } = &*self.shared;
        let now = clock.now();
        let Some((mut status, revisions)) = self.shared.look(|leader| status::of(leader, metrics, now)) else {
            return AutoscalerStatus::default();
        };
        // One by one, because a held request must not wait until all are looked at.
        let revisions = revisions.iter();
        let found = revisions.filter_map(|key| self.shared.look(|leader| status::of_revision(leader, key, now))?);
        status.revisions = found.collect();
        status
    }

    /// Why the model `name` of `namespace` has the replicas that it has; `None` for one that is not in the table.
    #[must_use]
    pub fn explain(&self, namespace: &str, name: &str) -> Option<ScaleExplanation> {
        let explanation = self.shared.look(|leader| leader.explain(&ModelKey::new(namespace, name)))??;
        Some(explanation.into())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<C, A>> {
        &self.shared
    }
}

impl<C: Cluster, A: ReplicaAdmin> Shared<C, A> {
    /// Looks at the leader's state. `None` where nobody leads here.
    fn look<T>(&self, look: impl FnOnce(&Leader) -> T) -> Option<T> {
        self.lead.lock().as_ref().map(|term| look(&term.leader))
    }

    /// Runs `change` on the leader's state and starts what follows from it. `None` where nobody leads here.
    pub(crate) fn lead<T>(self: &Arc<Self>, change: impl FnOnce(&mut Leader, &mut Vec<Task>) -> T) -> Option<T> {
        self.lead_in(None, change)
    }

    fn lead_in<T>(
        self: &Arc<Self>,
        number: Option<u64>,
        change: impl FnOnce(&mut Leader, &mut Vec<Task>) -> T,
    ) -> Option<T> {
        let mut tasks = Vec::new();
        let mut lead = self.lead.lock();
        let term = lead.as_mut().filter(|term| number.is_none_or(|number| number == term.number))?;
        let result = change(&mut term.leader, &mut tasks);
        let next_wake = term.leader.claims.next_wake();
        let sooner = next_wake.is_some_and(|next| term.next_wake.is_none_or(|known| next < known));
        term.next_wake = next_wake;
        let (number, over) = (term.number, term.over.clone());
        drop(lead);
        for task in tasks {
            self.start(task, number, over.clone());
        }
        if sooner {
            self.wake.notify_one();
        }
        Some(result)
    }

    fn start(self: &Arc<Self>, task: Task, number: u64, over: CancellationToken) {
        let shared = Arc::clone(self);
        tokio::spawn(over.run_until_cancelled_owned(async move {
            if let Some(reply) = shared.effects.perform(task).await {
                shared.lead_in(Some(number), |leader, tasks| leader.apply(reply, tasks));
            }
        }));
    }

    /// Periodic duties. A held request must not wait until all models are decided, so they are taken a few at a time.
    async fn tick(self: &Arc<Self>, number: u64) {
        /// About a millisecond's work.
        const MODELS_AT_ONCE: usize = 64;
        let due = self.lead_in(Some(number), |leader, _| leader.tick()).unwrap_or_default();
        for models in due.chunks(MODELS_AT_ONCE) {
            self.lead_in(Some(number), |leader, tasks| {
                models.iter().for_each(|model| leader.rescale_model(model, tasks));
            });
            tokio::task::yield_now().await;
        }
    }

    /// Resolves when the claim protocol wants to look at its clock.
    fn next_wake(&self) -> impl Future<Output = ()> + use<C, A> {
        let next = self.lead.lock().as_ref().and_then(|term| term.next_wake);
        let wait = next.map(|next| next.saturating_since(self.clock.now()));
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// Ends the term when the loop ends, in whatever way.
struct Deposed<'a, C, A> {
    shared: &'a Shared<C, A>,
    number: u64,
}

impl<C, A> Drop for Deposed<'_, C, A> {
    fn drop(&mut self) {
        let mut lead = self.shared.lead.lock();
        if let Some(term) = lead.take_if(|term| term.number == self.number) {
            term.leader.gateways.redirect();
        }
    }
}
