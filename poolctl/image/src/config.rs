//! What is run, and as whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use oci_spec::image::Config;

/// What an image's configuration says about running it; a field that is not given keeps what the base has.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunConfig {
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) env: BTreeMap<String, String>,
    /// Variables of the base that are left out.
    pub(crate) unset_env: BTreeSet<String>,
    pub(crate) user: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Labels of the base that are left out.
    pub(crate) unset_labels: BTreeSet<String>,
    pub(crate) working_dir: Option<String>,
    pub(crate) ports: Vec<String>,
    pub(crate) stop_signal: Option<String>,
}

// === impl RunConfig ===

impl RunConfig {
    /// `base` with this on top of it.
    pub(crate) fn over(&self, mut base: Config) -> Config {
        if let Some(entrypoint) = &self.entrypoint {
            base.set_entrypoint(Some(entrypoint.clone()));
            // the base's arguments were meant for the base's program
            base.set_cmd(None);
        }
        if let Some(cmd) = &self.cmd {
            base.set_cmd(Some(cmd.clone()));
        }
        if let Some(user) = &self.user {
            base.set_user(Some(user.clone()));
        }
        if let Some(working_dir) = &self.working_dir {
            base.set_working_dir(Some(working_dir.clone()));
        }
        if let Some(stop_signal) = &self.stop_signal {
            base.set_stop_signal(Some(stop_signal.clone()));
        }
        let env = self.env_over(base.env().clone().unwrap_or_default());
        base.set_env(Some(env).filter(|env| !env.is_empty()));
        if !self.ports.is_empty() {
            let mut ports = base.exposed_ports().clone().unwrap_or_default();
            ports.extend(self.ports.iter().filter(|port| !ports.contains(port)).cloned().collect::<Vec<_>>());
            base.set_exposed_ports(Some(ports));
        }
        let mut labels: HashMap<_, _> = base.labels().clone().unwrap_or_default();
        labels.retain(|name, _| !self.unset_labels.contains(name));
        labels.extend(self.labels.clone());
        base.set_labels(Some(labels).filter(|labels| !labels.is_empty()));
        base
    }

    /// The base's variables in their order, then the others.
    fn env_over(&self, base: Vec<String>) -> Vec<String> {
        let name_of = |line: &str| line.split_once('=').map_or(line, |(name, _)| name).to_owned();
        let replaced = |name: &String| self.env.contains_key(name) || self.unset_env.contains(name);
        let kept = base.into_iter().filter(|line| !replaced(&name_of(line)));
        kept.chain(self.env.iter().map(|(name, value)| format!("{name}={value}"))).collect()
    }
}
