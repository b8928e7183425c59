//! The suites: where each comes from, how it is started, and the bounds that it is held to.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::components::Component;

/// A suite of Knative's own tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// The contract of an ingress (knative.dev/networking/test/conformance/ingress)
    Ingress,
    /// The contract of Serving's API (knative.dev/serving/test/conformance/api/v1)
    ServingApi,
    /// The contract of what a container finds when it runs (knative.dev/serving/test/conformance/runtime)
    ServingRuntime,
    /// Activator, autoscaling, gRPC, WebSocket, rollouts, timeouts (knative.dev/serving/test/e2e)
    ServingE2e,
    /// Serving while its own parts fail (knative.dev/serving/test/ha)
    Ha,
}

/// How long things may take.
///
/// A wait inside the suites lasts ten minutes before the suite itself gives up, and a test has several of them one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// One case, from the moment it runs. Past it the case has failed.
    pub case: Duration,
    /// A case on the list of those that wait for an ingress: long enough for one that needs none after all.
    pub waiting_case: Duration,
    /// The whole suite, all its processes together.
    pub suite: Duration,
}

/// The flags that differ between clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The class of the ingress under test.
    pub ingress_class: String,
    /// Where the node ports of the ingress are reached; without one the suite takes the load balancer's address from the Service
    /// of the ingress.
    pub ingress_endpoint: Option<String>,
}

/// Which cases a process of the suite is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All that the pattern of `-test.run` matches (all without one), but not these.
    AllBut {
        /// A pattern in Go's form for `-test.run`, of cases.
        pattern: Option<String>,
        /// Names of cases.
        but: BTreeSet<String>,
    },
    /// Only these.
    Only(BTreeSet<String>),
}

// === impl Suite ===

impl Suite {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::ServingApi => "serving-api",
            Self::ServingRuntime => "serving-runtime",
            Self::ServingE2e => "serving-e2e",
            Self::Ha => "ha",
        }
    }

    /// The component that has the suite's binary and the programs of its images.
    pub fn component(self) -> Component {
        match self {
            Self::Ingress => Component::NetworkingSuites,
            Self::ServingApi | Self::ServingRuntime | Self::ServingE2e | Self::Ha => Component::ServingSuites,
        }
    }

    /// The name of its test binary.
    pub fn binary(self) -> &'static str {
        match self {
            Self::Ingress => "ingress.test",
            Self::ServingApi => "serving-api.test",
            Self::ServingRuntime => "serving-runtime.test",
            Self::ServingE2e => "serving-e2e.test",
            Self::Ha => "ha.test",
        }
    }

    /// The test function whose direct subtests are the cases, where it is not the test functions themselves.
    pub fn container(self) -> Option<&'static str> {
        match self {
            Self::Ingress => Some("TestIngressConformance"),
            Self::ServingApi | Self::ServingRuntime | Self::ServingE2e | Self::Ha => None,
        }
    }

    /// Folder of its images' names in the registry: the suites of networking and of Serving have images of the same names.
    pub fn image_folder(self) -> &'static str {
        match self {
            Self::Ingress => "networking-tests",
            Self::ServingApi | Self::ServingRuntime | Self::ServingE2e | Self::Ha => "serving-tests",
        }
    }

    /// How many cases run side by side: two cores start about four small pods at once without slowing each other beyond the bounds;
    /// the last suite kills parts of Serving, which no neighbour survives.
    pub fn parallel(self) -> usize {
        match self {
            Self::Ha => 1,
            Self::Ingress | Self::ServingApi | Self::ServingRuntime | Self::ServingE2e => 4,
        }
    }

    /// The bounds, unless others are given.
    pub fn bounds(self) -> Bounds {
        let seconds = |case, suite| Bounds {
            case: Duration::from_secs(case),
            waiting_case: Duration::from_secs(60),
            suite: Duration::from_secs(suite),
        };
        match self {
            // All 25 cases take 97 to 150 s together on two cores, four at a time: the slowest well below a minute.
            Self::Ingress => seconds(180, 1800),
            // A case starts one to four Services at about 5 s each under load; one waits for the two minutes after which a Deployment
            // that makes no progress has failed.
            Self::ServingApi | Self::ServingRuntime => seconds(240, 2700),
            // The longest scale up, hold a load for two minutes and wait until all pods have gone again.
            Self::ServingE2e => seconds(600, 5400),
            // A leader's Lease lasts 15 s and every case waits for several.
            Self::Ha => seconds(600, 3600),
        }
    }

    /// Files of the release with the objects that the suite expects in the cluster, below `config` of its component.
    pub fn objects(self) -> &'static [&'static str] {
        match self {
            Self::Ingress => &[],
            Self::ServingApi | Self::ServingRuntime | Self::ServingE2e | Self::Ha => {
                &["cluster-resources.yaml", "test-resources.yaml", "resource-quota/resource-quota.yaml"]
            }
        }
    }

    /// Settings that the suite's authors give Serving for it (`test/config/ytt/core` of the release), as ConfigMap, key, value: a domain
    /// of its own, without which no Service is reached from outside; crashes that are noticed after two minutes, not ten.
    pub fn settings(self, target: &Target) -> Vec<(&'static str, &'static str, String)> {
        match self {
            Self::Ingress => Vec::new(),
            Self::ServingApi | Self::ServingRuntime | Self::ServingE2e | Self::Ha => vec![
                ("config-deployment", "progress-deadline", "120s".to_owned()),
                ("config-domain", "example.com", String::new()),
                ("config-network", "autocreate-cluster-domain-claims", "true".to_owned()),
                ("config-network", "ingress-class", target.ingress_class.clone()),
            ],
        }
    }

    /// Cases that need what a cluster of this kind does not have, whatever its ingress, and why: they are never run.
    pub fn hopeless(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Ha => &[(
                "TestAutoscalerHPAHANewRevision",
                "needs Knative's second autoscaler, for HorizontalPodAutoscalers, and a metrics API",
            )],
            Self::Ingress | Self::ServingApi | Self::ServingRuntime | Self::ServingE2e => &[],
        }
    }

    /// The arguments for the binary, without those for the framework.
    pub fn arguments(self, target: &Target) -> Vec<String> {
        let mut arguments = vec![
            "--dockerrepo".to_owned(),
            format!("{}/{}", crate::images::REGISTRY, self.image_folder()),
            "--tag".to_owned(),
            crate::images::TAG.to_owned(),
            "--enable-alpha".to_owned(),
            "--enable-beta".to_owned(),
        ];
        let class = match self {
            Self::Ingress => "--ingressClass",
            Self::ServingApi | Self::ServingRuntime | Self::ServingE2e | Self::Ha => "--ingress-class",
        };
        arguments.extend([class.to_owned(), target.ingress_class.clone()]);
        if let Some(endpoint) = &target.ingress_endpoint {
            arguments.extend(["--ingressendpoint".to_owned(), endpoint.clone()]);
        }
        arguments
    }

    /// The arguments that make the binary run exactly the selected cases.
    pub fn select(self, selection: &Selection) -> Vec<String> {
        match (self.container(), selection) {
            (None, Selection::AllBut { pattern, but }) => {
                let run = pattern.iter().map(|pattern| format!("-test.run={pattern}"));
                run.chain((!but.is_empty()).then(|| format!("-test.skip={}", any_of(but)))).collect()
            }
            (None, Selection::Only(only)) => vec![format!("-test.run={}", any_of(only))],
            // Names of these cases contain slashes, `basics` and `basics/http2`, which -test.run and -test.skip take for levels: what
            // they select is not exact, the suite's own flag is.
            (Some(container), Selection::AllBut { pattern, but }) => {
                let run = match pattern {
                    Some(pattern) => format!("-test.run=^{container}$/{pattern}"),
                    None => format!("-test.run=^{container}$"),
                };
                let skip = (!but.is_empty()).then(|| format!("--skip-tests={}", short(container, but).join(",")));
                std::iter::once(run).chain(skip).collect()
            }
            (Some(container), Selection::Only(only)) => {
                let patterns = short(container, only).into_iter().map(|case| {
                    let levels: Vec<String> = case.split('/').map(|level| format!("^{}$", escaped(level))).collect();
                    format!("^{container}$/{}", levels.join("/"))
                });
                vec![format!("-test.run={}", patterns.collect::<Vec<_>>().join("|"))]
            }
        }
    }
}

/// A pattern that matches exactly these names.
fn any_of(names: &BTreeSet<String>) -> String {
    let names: Vec<String> = names.iter().map(|name| escaped(name)).collect();
    format!("^({})$", names.join("|"))
}

/// Names of tests have no other character that a pattern would take for something else.
fn escaped(name: &str) -> String {
    name.replace('.', "\\.").replace('+', "\\+")
}

/// Names without that of their container.
fn short<'a>(container: &str, names: &'a BTreeSet<String>) -> Vec<&'a str> {
    names.iter().filter_map(|name| name.strip_prefix(container)?.strip_prefix('/')).collect()
}
