use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::catalog::{Description, Files, Tools, description};
use super::module::{GoModule, GoVersion};
use super::plan::Plan;
use super::toolchain::Toolchain;
use super::{Binaries, Cache, Component, Error};
use crate::process::Progress;

const GO_MOD: &str = "\
module kferving/e2e/components/sample // a comment

go 1.26.6

// more words
replace (
\tk8s.io/api => k8s.io/api v0.36.3
)

tool (
\texample.org/sample/cmd/one
\texample.org/sample/server/v3 // with a version
)

require (
\texample.org/sample v1.36.3 // indirect
\texample.org/other v0.1.0
)

require example.org/single v2.0.0+incompatible
";

const SAMPLE: Description = Description {
    name: "sample",
    module: "sample",
    release: Some("example.org/sample"),
    tools: Tools::All,
    renamed: &[("server", "store")],
    variables: &[("example.org/v.Version", "{version}"), ("example.org/v.Short", "{bare}/{major}/{minor}")],
    suites: &[],
    files: &[],
};

fn module(text: &str, digest: u8) -> GoModule {
    GoModule::parse(Path::new("/modules/sample"), text, [digest; 32]).unwrap()
}

fn components() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("components")
}

fn version(text: &str) -> GoVersion {
    GoVersion::parse(text).unwrap()
}

#[test]
fn a_go_mod_says_tools_versions_and_the_oldest_go() {
    let module = module(GO_MOD, 0);
    assert_eq!(module.go, version("1.26.6"));
    assert_eq!(module.tools, ["example.org/sample/cmd/one", "example.org/sample/server/v3"]);
    let requires: Vec<(&str, &str)> = module.requires.iter().map(|(name, version)| (&**name, &**version)).collect();
    let expected = [
        ("example.org/other", "v0.1.0"),
        ("example.org/sample", "v1.36.3"),
        ("example.org/single", "v2.0.0+incompatible"),
    ];
    assert_eq!(requires, expected);
    assert!(GoModule::parse(Path::new("/m"), "module m\n", [0; 32]).unwrap_err().contains("`go` line"));
}

#[test]
fn versions_of_go_are_ordered_by_number() {
    assert!(version("go1.26.10") > version("1.26.9"));
    assert!(version("1.27") > version("go1.26.10"));
    assert_eq!(version("go1.26.8 X:nocoverageredesign"), version("1.26.8"));
    assert_eq!(version("go1.27rc1"), version("1.27.0"));
    assert_eq!(GoVersion::parse("devel"), None);
}

#[test]
fn a_plan_names_programs_and_fills_in_the_version() {
    let plan = Plan::of(&SAMPLE, &module(GO_MOD, 0), "go1.26.8").unwrap();
    assert_eq!(plan.version, "v1.36.3");
    assert_eq!(plan.programs, ["one", "store"]);
    assert_eq!(plan.renames, [("server", "store")]);
    let arguments = plan.commands[0].arguments(Path::new("/out"));
    let arguments: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
    let expected = [
        "build",
        "-v",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags=-s -w -X example.org/v.Version=v1.36.3 -X example.org/v.Short=1.36.3/1/36",
        "-o",
        "/out/",
        "example.org/sample/cmd/one",
        "example.org/sample/server/v3",
    ];
    assert_eq!(arguments, expected);
}

#[test]
fn a_component_may_be_a_part_of_its_module_and_have_suites() {
    let only =
        Description { tools: Tools::Only(&["one"]), suites: &[("example.org/sample/test", "all.test")], ..SAMPLE };
    let plan = Plan::of(&only, &module(GO_MOD, 0), "go1.26.8").unwrap();
    assert_eq!(plan.programs, ["all.test", "one"]);
    let suite = plan.commands[1].arguments(Path::new("/out"));
    assert_eq!(suite[..4], ["test", "-c", "-v", "-tags=e2e"]);
    assert_eq!(suite[suite.len() - 2..], ["/out/all.test", "example.org/sample/test"]);

    let absent = Description { tools: Tools::Only(&["two"]), ..SAMPLE };
    assert_eq!(Plan::of(&absent, &module(GO_MOD, 0), "go1.26.8").unwrap_err(), "`tool` line for two");
    let unreleased = Description { release: Some("example.org/elsewhere"), ..SAMPLE };
    let error = Plan::of(&unreleased, &module(GO_MOD, 0), "go1.26.8").unwrap_err();
    assert_eq!(error, "required module example.org/elsewhere");
}

#[test]
fn whatever_the_result_depends_on_changes_the_key() {
    let key = |description: &Description, digest, go| Plan::of(description, &module(GO_MOD, digest), go).unwrap().key();
    let files = &[Files { module: "example.org/sample", from: "config", to: "config" }];
    let keys = [
        key(&SAMPLE, 0, "go1.26.8"),
        key(&SAMPLE, 1, "go1.26.8"),
        key(&SAMPLE, 0, "go1.26.9"),
        key(&Description { variables: &[], ..SAMPLE }, 0, "go1.26.8"),
        key(&Description { tools: Tools::Only(&["one"]), ..SAMPLE }, 0, "go1.26.8"),
        key(&Description { files, ..SAMPLE }, 0, "go1.26.8"),
    ];
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "{keys:?}");
    assert_eq!(keys[0], key(&SAMPLE, 0, "go1.26.8"));
    assert!(keys[0].starts_with("v1.36.3-"), "{}", keys[0]);
}

#[test]
fn every_component_has_a_module_that_its_description_fits() {
    let mut names = BTreeSet::new();
    for &component in Component::ALL {
        let description = description(component);
        let module = GoModule::read(&components().join(description.module)).unwrap();
        let plan =
            Plan::of(description, &module, "go1.26.8").unwrap_or_else(|lacks| panic!("{component} lacks {lacks}"));
        assert!(!plan.programs.is_empty());
        assert!(names.insert(component.name()), "two components are called {component}");
        assert_eq!(Component::named(component.name()), Some(component));
    }
    assert_eq!(Component::named("docker"), None);
}

#[test]
fn the_two_parts_of_kubernetes_are_of_one_release() {
    let module = GoModule::read(&components().join("kubernetes")).unwrap();
    let plan = |component| Plan::of(description(component), &module, "go1.26.8").unwrap();
    let (control_plane, node) = (plan(Component::Kubernetes), plan(Component::KubernetesNode));
    assert_eq!(control_plane.programs, ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"]);
    assert_eq!(node.programs, ["kube-proxy", "kubelet"]);
    assert_ne!(control_plane.key(), node.key());
    // A staging module of another release would be a cluster that nobody released.
    let text = std::fs::read_to_string(module.dir.join("go.mod")).unwrap();
    let staging = text.lines().filter(|line| line.contains(" => ")).map(|line| line.rsplit(' ').next().unwrap());
    let expected = control_plane.version.replacen("v1.", "v0.", 1);
    assert_eq!(staging.collect::<BTreeSet<_>>(), BTreeSet::from([expected.as_str()]));
}

#[test]
fn the_digest_of_a_module_is_that_of_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let digest = || GoModule::read(dir.path()).unwrap().digest;
    std::fs::write(dir.path().join("go.mod"), "module m\ngo 1.26.0\n").unwrap();
    let first = digest();
    std::fs::write(dir.path().join(".go.mod.swp"), "an editor's").unwrap();
    assert_eq!(digest(), first);
    std::fs::write(dir.path().join("go.sum"), "").unwrap();
    let second = digest();
    assert_ne!(second, first);
    std::fs::rename(dir.path().join("go.sum"), dir.path().join("go.sun")).unwrap();
    assert_ne!(digest(), second);
}

#[test]
fn the_machines_go_is_used_where_it_is_new_enough() {
    let choose = |installed| Toolchain::choose(version("1.26.6"), installed, Path::new("/cache"));
    assert_eq!(choose(Some("go1.26.8")).version, "go1.26.8");
    assert_eq!(choose(Some("go1.26.6")).version, "go1.26.6");
    let fetched = choose(None);
    assert!(version(&fetched.version) > version("1.26.6"));
    assert_eq!(choose(Some("go1.19.8")), fetched);
    // No module may need a newer Go than the one that is fetched, or a machine without Go could not build it.
    for &component in Component::ALL {
        let needed = GoModule::read(&components().join(description(component).module)).unwrap().go;
        assert!(version(&fetched.version) >= needed, "{component} needs Go {needed}");
    }
}

/// A cache of one component, `pause`, made of `main`: its module needs nothing from outside.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    fn new(main: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let module = dir.path().join("modules/pause");
        std::fs::create_dir_all(&module).unwrap();
        std::fs::write(module.join("go.mod"), "module example.org/pause\n\ngo 1.20\n\ntool example.org/pause\n")
            .unwrap();
        // A Go that has to be fetched is fetched once, into the user's cache.
        let (cache, go) = (dir.path().join("cache"), Cache::open().unwrap().root().join("go"));
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::create_dir_all(&go).unwrap();
        std::os::unix::fs::symlink(go, cache.join("go")).unwrap();
        let small = Self { dir };
        small.write(main);
        small
    }

    fn write(&self, main: &str) {
        std::fs::write(self.dir.path().join("modules/pause/main.go"), main).unwrap();
    }

    fn cache(&self) -> Cache {
        Cache::at(&self.dir.path().join("cache"), &self.dir.path().join("modules"))
    }

    async fn ensure(&self) -> Result<Binaries, Error> {
        self.cache().ensure(&[Component::Pause], &Progress::silent()).await
    }

    /// What the cache has of the component beside the lock.
    fn kept(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("cache/bin/pause")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "lock").collect()
    }
}

const ONE: &str = "package main\n\nfunc main() { println(\"one\") }\n";
const TWO: &str = "package main\n\nfunc main() { println(\"two\") }\n";

fn said(binaries: &Binaries) -> String {
    let output = std::process::Command::new(binaries.path("pause").unwrap()).output().unwrap();
    String::from_utf8(output.stderr).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_component_is_built_once_and_again_when_it_changes() {
    let small = Small::new(ONE);
    let first = small.ensure().await.unwrap();
    assert_eq!(said(&first), "one");
    assert_eq!(first.version(Component::Pause), Some("own"));
    assert_eq!(first.programs(Component::Pause).collect::<Vec<_>>(), ["pause"]);
    let written = || std::fs::metadata(first.path("pause").unwrap()).unwrap().modified().unwrap();
    let before = written();
    small.ensure().await.unwrap();
    assert_eq!(written(), before);

    small.write(TWO);
    let second = small.ensure().await.unwrap();
    assert_eq!(said(&second), "two");
    // The first is kept: another checkout may use it, and going back costs nothing.
    assert_eq!(small.kept().len(), 2);
    let error = second.path("kubelet").unwrap_err();
    assert_eq!(error.to_string(), "there is no program kubelet among those of pause");
}

#[tokio::test]
async fn a_failed_build_says_why_and_leaves_nothing() {
    let small = Small::new("package main\n\nfunc main() { undefined() }\n");
    let error = small.ensure().await.unwrap_err().to_string();
    assert!(error.contains("pause own was not built (go build ended with exit status: 1)"), "{error}");
    assert!(error.contains("main.go:3:15: undefined: undefined"), "{error}");
    assert_eq!(small.kept(), [""; 0]);
}

#[tokio::test]
async fn half_built_is_not_built() {
    let small = Small::new(ONE);
    let built = small.ensure().await.unwrap().path("pause").unwrap();
    // As an interrupted build leaves it, and as somebody who makes room does.
    let partial = small.dir.path().join("cache/bin/pause/.partial-x");
    std::fs::create_dir(&partial).unwrap();
    std::fs::remove_file(&built).unwrap();
    assert_eq!(said(&small.ensure().await.unwrap()), "one");
    assert!(!partial.exists());
}

#[tokio::test]
async fn two_at_once_build_it_once() {
    let small = Small::new(ONE);
    let (left, right) = tokio::join!(small.ensure(), small.ensure());
    assert_eq!(said(&left.unwrap()), "one");
    assert_eq!(said(&right.unwrap()), "one");
    assert_eq!(small.kept().len(), 1);
}

#[tokio::test]
async fn a_component_without_a_module_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(&dir.path().join("cache"), &dir.path().join("modules"));
    let error = cache.ensure(&[Component::Etcd], &Progress::silent()).await.unwrap_err().to_string();
    assert!(error.starts_with("component etcd: "), "{error}");
    assert!(error.contains("modules/etcd/go.mod"), "{error}");
}
