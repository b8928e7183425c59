//! What gateways report, summed over them. A gateway that falls silent is unknown, never zero.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_policy::{Device, Moment, SizeBucket};

use crate::ids::{GatewayId, ModelKey};
use crate::service::Answered;

/// A gateway reports every second; one that has not for three is unknown.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);

/// A gateway that stays silent is forgotten after this time, with the demand that it last reported: a stable window, in
/// which one that still runs would have found the autoscaler again.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The demand for one model at one gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelReport {
    /// The model.
    pub model: ModelKey,
    /// Requests that wait for a replica now.
    pub held: u32,
    /// Requests on replicas now.
    pub in_flight: u32,
    /// Requests since the gateway's epoch.
    pub arrivals: u64,
    /// Mean number of requests held or in flight since the report before.
    pub average_concurrency: f64,
    /// The same by device.
    pub variants: Vec<VariantReport>,
}

/// The demand for one variant at one gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantReport {
    /// The device.
    pub device: Device,
    /// Requests on its replicas now.
    pub in_flight: u32,
    /// By size: requests answered since the gateway's epoch, and the time they took together.
    pub service_times: Vec<(SizeBucket, u64, Duration)>,
}

/// The gateways that there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gateways {
    known: BTreeMap<GatewayId, Contact>,
}

#[derive(Clone, Copy, Debug)]
struct Contact {
    epoch: u64,
    connected: bool,
    /// When it sent its last report since it connected.
    reported: Option<Moment>,
    heard: Moment,
}

impl Gateways {
    /// A stream opened. Returns whether the gateway has started anew since it was last heard of: its counts begin at 0.
    pub(crate) fn hello(&mut self, gateway: &GatewayId, epoch: u64, now: Moment) -> bool {
        let contact = Contact { epoch, connected: true, reported: None, heard: now };
        self.known.insert(gateway.clone(), contact).is_some_and(|before| before.epoch != epoch)
    }

    /// The gateway said something. Returns whether it is known.
    pub(crate) fn heard(&mut self, gateway: &GatewayId, now: Moment) -> bool {
        let Some(contact) = self.known.get_mut(gateway) else { return false };
        contact.heard = now;
        contact.connected = true;
        true
    }

    /// The gateway has said everything that it sees.
    pub(crate) fn reported(&mut self, gateway: &GatewayId, now: Moment) {
        if let Some(contact) = self.known.get_mut(gateway) {
            contact.reported = Some(now);
        }
    }

    pub(crate) fn silent(&mut self, gateway: &GatewayId) {
        if let Some(contact) = self.known.get_mut(gateway) {
            contact.connected = false;
        }
    }

    /// Gateways that have been silent for too long; they are not known any more.
    pub(crate) fn forget_silent(&mut self, now: Moment) -> Vec<GatewayId> {
        let is_over = |contact: &Contact| now.saturating_since(contact.heard) >= FORGOTTEN_AFTER;
        let over: Vec<_> =
            self.known.iter().filter(|(_, contact)| is_over(contact)).map(|(gateway, _)| gateway.clone()).collect();
        for gateway in &over {
            self.known.remove(gateway);
        }
        over
    }

    /// Age of the oldest of their last reports; `None` before the first.
    pub(crate) fn report_age(&self, now: Moment) -> Option<Duration> {
        self.known.values().filter_map(|contact| contact.reported).map(|at| now.saturating_since(at)).max()
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Gateways whose demand is not known now.
    pub(crate) fn unknown(&self, now: Moment) -> usize {
        let is_unknown = |contact: &&Contact| {
            !contact.connected || contact.reported.is_none() || now.saturating_since(contact.heard) > SILENT_AFTER
        };
        self.known.values().filter(is_unknown).count()
    }
}

/// What one gateway last said of one model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) held: u32,
    pub(crate) in_flight: u32,
    pub(crate) average: f64,
    pub(crate) arrivals: u64,
    /// Whether requests came between its last two reports: more may have come since, which only the next one tells.
    pub(crate) asked: bool,
    /// Share of the average concurrency that was on each device.
    pub(crate) shares: [f64; Device::ALL.len()],
    answered: [[(u64, Duration); SizeBucket::COUNT]; Device::ALL.len()],
}

/// What a report added to what its gateway had said before.
#[derive(Clone, Debug, Default)]
pub(crate) struct News {
    pub(crate) arrivals: u64,
    pub(crate) answered: Vec<Answered>,
}

impl Seen {
    /// Takes in a report of the same epoch.
    pub(crate) fn update(&mut self, report: &ModelReport) -> News {
        let mut news = News { arrivals: report.arrivals.saturating_sub(self.arrivals), answered: Vec::new() };
        let mut busy = [0.0; Device::ALL.len()];
        for variant in &report.variants {
            let device = variant.device;
            busy[device.index()] += f64::from(variant.in_flight);
            for (size, requests, total) in &variant.service_times {
                let cell = &mut self.answered[device.index()][size.index()];
                let (more, took) = (requests.saturating_sub(cell.0), total.saturating_sub(cell.1));
                *cell = (*requests, *total);
                if more > 0 {
                    busy[device.index()] += took.as_secs_f64();
                    news.answered.push(Answered { device, size: *size, requests: more, total: took });
                }
            }
        }
        let everywhere = busy.iter().sum::<f64>() + f64::from(report.held);
        self.shares = if everywhere > 0.0 { busy.map(|device| device / everywhere) } else { [0.0; 2] };
        self.held = report.held;
        self.in_flight = report.in_flight;
        self.arrivals = report.arrivals;
        self.asked = news.arrivals > 0;
        // A float from the network: what is no number of requests counts as none.
        let average = report.average_concurrency;
        self.average = if average.is_finite() && average > 0.0 { average } else { 0.0 };
        news
    }

    /// The gateway did not mention the model: it has no demand for it.
    pub(crate) fn calm(&mut self) {
        self.held = 0;
        self.in_flight = 0;
        self.average = 0.0;
        self.asked = false;
    }
}
