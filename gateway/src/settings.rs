//! What an operator can set, with defaults that carry their reasons.

use std::time::Duration;

/// Settings of a [`crate::Gateway`], fixed for its life.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewaySettings {
    /// Namespace of requests whose `Host` names none. Without it, a model's bare name is enough where it is unique.
    pub namespace: Option<String>,
    /// Serving threads; each has its own listener and its own connections to replicas.
    pub threads: usize,
    /// Bounds on what callers can make the gateway keep.
    pub limits: Limits,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            namespace: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            limits: Limits::default(),
        }
    }
}

/// Bounds on what callers can make the gateway keep.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Longest request body, in bytes. 64 MiB is also what Triton and KServe accept.
    pub max_body_bytes: u64,
    /// Requests held per model while it has no free replica, as many as Knative's activator holds per revision.
    pub hold_requests: usize,
    /// Bytes of bodies held per model: 10,000 small bodies fit, 10,000 bodies of the replay bound do not.
    pub hold_bytes: u64,
    /// Bytes of bodies over all models that are being read, before their requests wait for a replica or have one, and up to half
    /// of it of longer ones while they wait. As many as one model may hold: 4,000 bodies of the replay bound at a time.
    pub reading_bytes: u64,
    /// Requests that one caller (a peer address) may have held or in flight; `None`: no limit of its own.
    pub caller_concurrency: Option<u32>,
    /// Open client connections over all threads; above it new ones are closed at once.
    pub max_connections: usize,
    /// Longest that a client may take to send a request's head; slow heads are how one host pins a server.
    pub header_timeout: Duration,
    /// How long a connection may be open without a request: over HTTP/1 between two, over HTTP/2 without a stream. 75 s is
    /// nginx's `keepalive_timeout`.
    pub idle_timeout: Duration,
    /// Longest silence within a request's body.
    pub body_idle_timeout: Duration,
    /// Bytes per second that a client must send on average of a body too long to be read before a replica's slot is taken,
    /// beyond [`Limits::body_grace`]. Only time spent waiting for the client counts. 8 KiB/s is a poor mobile connection;
    /// whoever is slower than that by intent would hold a slot for as long as the model's timeout.
    pub body_bytes_per_second: u64,
    /// How long a client may be slower than that: a pause or a bad moment of its network.
    pub body_grace: Duration,
    /// Longest that a client may take no byte of an answer that is there for it, before its connection is closed: it would
    /// keep its connection, and the memory of its answers, for as long as it likes. 30 s is half of nginx's `send_timeout`,
    /// and as long as a request's body may be silent. Whoever takes a little now and then is slow, not stalled, and stays:
    /// a bandwidth for answers would cut off honest clients that share a connection.
    pub answer_stall_timeout: Duration,
    /// Longest that shutdown waits for requests in flight.
    pub drain_timeout: Duration,
    /// Longest that a request may stay held once shutdown began.
    pub held_drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 64 << 20,
            hold_requests: 10_000,
            hold_bytes: 256 << 20,
            reading_bytes: 256 << 20,
            caller_concurrency: None,
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_idle_timeout: Duration::from_secs(30),
            body_bytes_per_second: 8 << 10,
            body_grace: Duration::from_secs(5),
            answer_stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            held_drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Bodies up to this length are read before a replica's slot is taken, and can be sent again: the bound linkerd uses.
pub(crate) const REPLAY_BYTES: u64 = 64 << 10;
