//! What each component consists of. Versions are not here: they are in its `go.mod`.

use super::Component;

/// How a component is made from its module.
#[derive(Debug)]
pub(super) struct Description {
    /// Name on the command line and in the cache.
    pub(super) name: &'static str,
    /// Folder of the Go module below `e2e/components`.
    pub(super) module: &'static str,
    /// The module whose version is the component's; `None` when the program is ours.
    pub(super) release: Option<&'static str>,
    /// Which of the module's tools.
    pub(super) tools: Tools,
    /// Go names a program by its package; some are better known by another name: (theirs, ours).
    pub(super) renamed: &'static [(&'static str, &'static str)],
    /// Variables set by the linker, with `{version}` (v1.2.3), `{bare}` (1.2.3), `{major}` and `{minor}` of the release in them.
    pub(super) variables: &'static [(&'static str, &'static str)],
    /// Test packages that become programs: (package, name).
    pub(super) suites: &'static [(&'static str, &'static str)],
    /// Configuration that is released with the sources.
    pub(super) files: &'static [Files],
}

/// The tools of a module that belong to a component.
#[derive(Debug)]
pub(super) enum Tools {
    /// Each of its `tool` lines.
    All,
    /// Those whose program has one of these names.
    Only(&'static [&'static str]),
}

/// YAML files of a module, copied beside the programs: whoever has the binaries needs no Go.
#[derive(Debug)]
pub(super) struct Files {
    /// The Go module.
    pub(super) module: &'static str,
    /// A file, or a folder with all below it, inside the module.
    pub(super) from: &'static str,
    /// Folder inside the component's.
    pub(super) to: &'static str,
}

/// Clients refuse a server whose version they cannot read, and a build date is part of it; a fixed one, as the build has to be
/// the same whenever it is made.
const BUILD_DATE: &str = "1980-01-01T00:00:00Z";

const PLAIN: Description = Description {
    name: "",
    module: "",
    release: None,
    tools: Tools::All,
    renamed: &[],
    variables: &[],
    suites: &[],
    files: &[],
};

const ETCD: Description = Description {
    name: "etcd",
    module: "etcd",
    release: Some("go.etcd.io/etcd/server/v3"),
    renamed: &[("server", "etcd")],
    ..PLAIN
};

const KUBERNETES: Description = Description {
    name: "kubernetes",
    module: "kubernetes",
    release: Some("k8s.io/kubernetes"),
    tools: Tools::Only(&["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"]),
    variables: &[
        ("k8s.io/component-base/version.gitVersion", "{version}"),
        ("k8s.io/component-base/version.gitMajor", "{major}"),
        ("k8s.io/component-base/version.gitMinor", "{minor}"),
        ("k8s.io/component-base/version.gitTreeState", "clean"),
        ("k8s.io/component-base/version.gitCommit", "unknown"),
        ("k8s.io/component-base/version.buildDate", BUILD_DATE),
        ("k8s.io/client-go/pkg/version.gitVersion", "{version}"),
        ("k8s.io/client-go/pkg/version.gitMajor", "{major}"),
        ("k8s.io/client-go/pkg/version.gitMinor", "{minor}"),
        ("k8s.io/client-go/pkg/version.gitTreeState", "clean"),
        ("k8s.io/client-go/pkg/version.gitCommit", "unknown"),
        ("k8s.io/client-go/pkg/version.buildDate", BUILD_DATE),
    ],
    ..PLAIN
};

const KUBERNETES_NODE: Description =
    Description { name: "kubernetes-node", tools: Tools::Only(&["kubelet", "kube-proxy"]), ..KUBERNETES };

const CONTAINERD: Description = Description {
    name: "containerd",
    module: "containerd",
    release: Some("github.com/containerd/containerd/v2"),
    variables: &[("github.com/containerd/containerd/v2/version.Version", "{version}")],
    ..PLAIN
};

const COREDNS: Description =
    Description { name: "coredns", module: "coredns", release: Some("github.com/coredns/coredns"), ..PLAIN };

const PAUSE: Description = Description { name: "pause", module: "pause", ..PLAIN };

const KNATIVE: Description = Description {
    name: "knative",
    module: "knative",
    release: Some("knative.dev/serving"),
    // Serving's own CRDs of networking and caching are links, which the archives of Go modules leave out.
    files: &[
        Files { module: "knative.dev/serving", from: "config/core", to: "config/serving" },
        Files { module: "knative.dev/networking", from: "config", to: "config/networking" },
        Files { module: "knative.dev/caching", from: "config", to: "config/caching" },
    ],
    ..PLAIN
};

const KWOK: Description = Description { name: "kwok", module: "kwok", release: Some("sigs.k8s.io/kwok"), ..PLAIN };

const REGISTRY: Description = Description {
    name: "registry",
    module: "registry",
    release: Some("github.com/distribution/distribution/v3"),
    ..PLAIN
};

const NETWORKING_SUITES: Description = Description {
    name: "knative-suites-networking",
    module: "knative-suites-networking",
    release: Some("knative.dev/networking"),
    suites: &[("knative.dev/networking/test/conformance/ingress", "ingress.test")],
    ..PLAIN
};

const SERVING_SUITES: Description = Description {
    name: "knative-suites-serving",
    module: "knative-suites-serving",
    release: Some("knative.dev/serving"),
    suites: &[
        ("knative.dev/serving/test/conformance/api/v1", "serving-api.test"),
        ("knative.dev/serving/test/conformance/runtime", "serving-runtime.test"),
        ("knative.dev/serving/test/e2e", "serving-e2e.test"),
        ("knative.dev/serving/test/ha", "ha.test"),
    ],
    files: &[
        Files { module: "knative.dev/serving", from: "test/config/cluster-resources.yaml", to: "config" },
        Files { module: "knative.dev/serving", from: "test/config/test-resources.yaml", to: "config" },
        Files { module: "knative.dev/serving", from: "test/config/resource-quota", to: "config/resource-quota" },
    ],
    ..PLAIN
};

/// How `component` is made.
pub(super) fn description(component: Component) -> &'static Description {
    match component {
        Component::Etcd => &ETCD,
        Component::Kubernetes => &KUBERNETES,
        Component::KubernetesNode => &KUBERNETES_NODE,
        Component::Containerd => &CONTAINERD,
        Component::CoreDns => &COREDNS,
        Component::Pause => &PAUSE,
        Component::Knative => &KNATIVE,
        Component::Kwok => &KWOK,
        Component::Registry => &REGISTRY,
        Component::NetworkingSuites => &NETWORKING_SUITES,
        Component::ServingSuites => &SERVING_SUITES,
    }
}
