//! The load generator and the scenarios that measure KFerving.
//!
//! Requests come from [`open_loop`] (when they are due) or [`closed_loop`] (when the last was answered), over
//! connections of [`http1`]. Scenarios start the product's own binaries, look at them through their public interfaces
//! only, and end in a [`report::Report`]: JSON, a table and a page. What a scenario concludes is decided by pure functions.

pub mod affinity;
pub mod arrivals;
pub mod bare;
pub mod binaries;
pub mod closed_loop;
pub mod echo;
#[cfg(test)]
mod fake_server;
pub mod files;
pub mod http1;
pub mod inference;
pub mod knative;
pub mod machine;
pub mod open_loop;
pub mod outcome;
pub mod page;
pub mod plot;
pub mod proc_stats;
pub mod process;
pub mod progress;
pub mod record;
pub mod report;
pub mod result_file;
pub mod rounds;
pub mod scenarios;
pub mod scrape;
pub mod server_timing;
pub mod sockets;
pub mod stack;
pub mod status;
pub mod steady_loop;
pub mod table;
