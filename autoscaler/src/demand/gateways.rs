//! The gateways that are connected, and what each has been told.
//!
//! Everything here happens under the lock of the leader's state: a replica is pushed to every gateway, and a new gateway
//! is told of every replica, without a moment in which one could be missed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use autoscaler_demand::autoscaler_message::Kind;
use autoscaler_demand::{AutoscalerMessage, ModelState, Redirect, ReplicaAdded, ReplicaGone, ReplicaRemoving, Welcome};
use autoscaler_policy::{ClaimId, GatewayId, ModelKey, RevisionKey, Uid};
use gateway_policy::Moment;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages that a gateway may leave unread before its stream is ended; it then reconnects and is told everything anew.
/// What it is told at the beginning comes on top.
const OUTBOX: usize = 1024;

/// Longest that a new gateway waits for `synced` because replicas that it reported are still being adopted.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(2);

/// One stream of one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(u64);

/// The reading side of a session's messages.
pub(crate) struct Outbox {
    pub(crate) session: SessionId,
    pub(crate) messages: mpsc::Receiver<AutoscalerMessage>,
    /// Cancelled when the session is ended from our side.
    pub(crate) ended: CancellationToken,
}

struct Session {
    gateway: GatewayId,
    outbox: mpsc::Sender<AutoscalerMessage>,
    ended: CancellationToken,
    opened: Moment,
    last_heard: Moment,
    last_sequence: u64,
    /// Reported replicas of which it is not yet known whether they are ours.
    unsettled: BTreeSet<Uid>,
    welcomed: bool,
}

struct Removal {
    claim: ClaimId,
    waiting: BTreeSet<SessionId>,
}

/// What a gateway's stream says of its freshness.
pub(crate) enum Freshness {
    /// In order.
    Fresh(GatewayId),
    /// Already seen, or of a stream that has ended.
    Stale,
}

/// All streams, and what a new one must be told.
#[derive(Default)]
pub(crate) struct Gateways {
    leader_id: String,
    sessions: BTreeMap<SessionId, Session>,
    next_session: u64,
    published: BTreeMap<Uid, ReplicaAdded>,
    removals: BTreeMap<Uid, Removal>,
    /// What was last told of models in trouble, and when.
    troubled: BTreeMap<ModelKey, (ModelState, Moment)>,
    synced: bool,
}

fn message(kind: Kind) -> AutoscalerMessage {
    AutoscalerMessage { kind: Some(kind) }
}

/// What is left of a model's trouble after this time; nothing once another attempt is due.
fn remaining(state: &ModelState, elapsed: Duration) -> Option<ModelState> {
    if state.retry_after_ms == 0 {
        return Some(state.clone());
    }
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let retry_after_ms = state.retry_after_ms.checked_sub(elapsed_ms).filter(|left| *left > 0)?;
    Some(ModelState { retry_after_ms, ..state.clone() })
}

impl Session {
    /// False when the gateway does not read: the session is ended then.
    fn send(&self, kind: Kind) -> bool {
        let sent = self.outbox.try_send(message(kind)).is_ok();
        if !sent && !self.ended.is_cancelled() {
            tracing::warn!(gateway = %self.gateway, "it does not read what it is told: ending its stream");
            self.ended.cancel();
        }
        sent
    }
}

impl Gateways {
    pub(crate) fn new(leader_id: String) -> Self {
        Self { leader_id, ..Self::default() }
    }

    /// A gateway said hello; of `unsettled`, replicas that it uses, it is not known yet whether they are ours. An older
    /// stream of the same gateway ends: its process has opened a new one.
    pub(crate) fn open(&mut self, gateway: &GatewayId, unsettled: BTreeSet<Uid>, now: Moment) -> Outbox {
        for older in self.sessions.values().filter(|session| session.gateway == *gateway) {
            older.ended.cancel();
        }
        let session_id = SessionId(self.next_session);
        self.next_session += 1;
        let (outbox, messages) = mpsc::channel(OUTBOX + self.published.len() + self.troubled.len());
        let ended = CancellationToken::new();
        let session = Session {
            gateway: gateway.clone(),
            outbox,
            ended: ended.clone(),
            opened: now,
            last_heard: now,
            last_sequence: 0,
            unsettled,
            welcomed: false,
        };
        session.send(Kind::Welcome(Welcome { leader_id: self.leader_id.clone(), synced: false }));
        for added in self.published.values() {
            session.send(Kind::Added(added.clone()));
        }
        for state in self.troubled.values().filter_map(|(state, since)| remaining(state, now.saturating_since(*since)))
        {
            session.send(Kind::Model(state));
        }
        self.sessions.insert(session_id, session);
        self.welcome(now);
        Outbox { session: session_id, messages, ended }
    }

    /// The stream ended. Returns its gateway, unless that has another stream by now, and the removals that nobody else
    /// was asked about.
    pub(crate) fn close(&mut self, session: SessionId) -> (Option<GatewayId>, Vec<(Uid, ClaimId)>) {
        let Some(closed) = self.sessions.remove(&session) else { return (None, Vec::new()) };
        let replaced = self.sessions.values().any(|other| other.gateway == closed.gateway);
        let uids: Vec<_> = self.removals.keys().cloned().collect();
        let acked = uids.iter().filter_map(|uid| self.ack(session, uid)).collect();
        ((!replaced).then_some(closed.gateway), acked)
    }

    /// Notes a numbered message.
    pub(crate) fn heard(&mut self, session: SessionId, sequence: u64, now: Moment) -> Freshness {
        match self.sessions.get_mut(&session) {
            Some(session) if sequence > session.last_sequence && !session.ended.is_cancelled() => {
                session.last_sequence = sequence;
                session.last_heard = now;
                Freshness::Fresh(session.gateway.clone())
            }
            _ => Freshness::Stale,
        }
    }

    /// Everything that existed before this leader is known now.
    pub(crate) fn cluster_synced(&mut self, now: Moment) {
        self.synced = true;
        self.welcome(now);
    }

    pub(crate) fn publish(&mut self, uid: &Uid, added: ReplicaAdded, now: Moment) {
        for session in self.sessions.values_mut() {
            session.send(Kind::Added(added.clone()));
            session.unsettled.remove(uid);
        }
        self.published.insert(uid.clone(), added);
        self.welcome(now);
    }

    /// Asks every gateway to stop sending to the replica. True when there is nobody to wait for.
    pub(crate) fn remove(&mut self, uid: &Uid, claim: ClaimId, revision: &RevisionKey) -> bool {
        self.published.remove(uid);
        let removing = ReplicaRemoving { revision: revision.to_string(), uid: uid.to_string() };
        let asked = self.sessions.iter().filter(|(_, session)| session.send(Kind::Removing(removing.clone())));
        let waiting: BTreeSet<_> = asked.map(|(id, _)| *id).collect();
        let nobody = waiting.is_empty();
        if !nobody {
            self.removals.insert(uid.clone(), Removal { claim, waiting });
        }
        nobody
    }

    /// A gateway stopped sending to the replica. Returns the replica when it was the last one asked.
    pub(crate) fn ack(&mut self, session: SessionId, uid: &Uid) -> Option<(Uid, ClaimId)> {
        let removal = self.removals.get_mut(uid)?;
        removal.waiting.remove(&session);
        if !removal.waiting.is_empty() {
            return None;
        }
        self.removals.remove_entry(uid).map(|(uid, removal)| (uid, removal.claim))
    }

    pub(crate) fn gone(&mut self, uid: &Uid, revision: &RevisionKey, now: Moment) {
        self.published.remove(uid);
        self.removals.remove(uid);
        let gone = ReplicaGone { revision: revision.to_string(), uid: uid.to_string() };
        for session in self.sessions.values_mut() {
            session.send(Kind::Gone(gone.clone()));
            session.unsettled.remove(uid);
        }
        self.welcome(now);
    }

    /// Tells what is wrong with a model, also when that is the same as before: a gateway holds requests again once the
    /// time until the next attempt has passed, and they wait for what comes of it. An empty reason says that all is well.
    pub(crate) fn model(&mut self, key: &ModelKey, state: ModelState, now: Moment) {
        if state.reason.is_empty() && !self.troubled.contains_key(key) {
            return;
        }
        for session in self.sessions.values() {
            session.send(Kind::Model(state.clone()));
        }
        if state.reason.is_empty() {
            self.troubled.remove(key);
        } else {
            self.troubled.insert(key.clone(), (state, now));
        }
    }

    /// Sends `synced` to gateways that are waiting for it, where it may be sent.
    pub(crate) fn welcome(&mut self, now: Moment) {
        if !self.synced {
            return;
        }
        for session in self.sessions.values_mut().filter(|session| !session.welcomed) {
            if session.unsettled.is_empty() || now.saturating_since(session.opened) > ADOPTION_PATIENCE {
                session.welcomed = true;
                session.send(Kind::Welcome(Welcome { leader_id: self.leader_id.clone(), synced: true }));
            }
        }
    }

    /// The longest that any connected gateway has been silent.
    pub(crate) fn staleness(&self, now: Moment) -> Duration {
        let silences = self.sessions.values().map(|session| now.saturating_since(session.last_heard));
        silences.max().unwrap_or(Duration::ZERO)
    }

    pub(crate) fn connected(&self) -> impl Iterator<Item = (&GatewayId, Moment)> {
        self.sessions.values().map(|session| (&session.gateway, session.last_heard))
    }

    pub(crate) fn is_published(&self, uid: &Uid) -> bool {
        self.published.contains_key(uid)
    }

    /// Ends every stream: somebody else leads, or nobody.
    pub(crate) fn redirect(&self) {
        for session in self.sessions.values() {
            session.send(Kind::Redirect(Redirect { leader: String::new() }));
            session.ended.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
