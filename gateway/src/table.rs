//! The models by name, and which of them a request means.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::error::Error;
use crate::model::{Model, ModelKey};
use crate::route::host_labels;

/// Names that operators give: nobody can send colliding ones into it, so that a fast hash will do.
type ByName<T> = HashMap<String, T, RandomState>;

/// All models: an immutable snapshot.
#[derive(Default)]
pub(crate) struct Table {
    namespaces: ByName<Namespace>,
    /// By bare name; each list is sorted by namespace.
    names: ByName<Vec<Arc<Model>>>,
    /// In the order of the catalogue.
    sorted: BTreeMap<ModelKey, Arc<Model>>,
}

/// The models of one namespace, by name.
#[derive(Default)]
struct Namespace {
    name: String,
    models: ByName<Arc<Model>>,
}

/// Where a request's `Host` points.
#[derive(Clone, Copy)]
pub(crate) struct HostScope<'a> {
    /// The namespace that the host names, if it names one of the table.
    namespace: Option<&'a Namespace>,
    /// The first label of a host that names a namespace of the table.
    model: Option<&'a str>,
}

impl Table {
    pub(crate) fn new(models: impl IntoIterator<Item = Arc<Model>>) -> Self {
        let mut table = Self::default();
        for model in models {
            table.sorted.insert(model.key.clone(), model);
        }
        for (key, model) in &table.sorted {
            let namespace = table.namespaces.entry(key.namespace.clone()).or_default();
            namespace.name.clone_from(&key.namespace);
            namespace.models.insert(key.name.clone(), Arc::clone(model));
            table.names.entry(key.name.clone()).or_default().push(Arc::clone(model));
        }
        table
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Model>> {
        self.namespaces.get(namespace)?.models.get(name)
    }

    /// Every model, by namespace and name.
    pub(crate) fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.sorted.values()
    }

    /// What `host` says. A host whose second label is no namespace of the table is just an address of the gateway.
    /// Hosts are the same in any case (RFC 9110, 4.2.3).
    pub(crate) fn scope_of<'a>(&'a self, host: Option<&'a str>) -> HostScope<'a> {
        let found = host.and_then(host_labels).and_then(|(model, namespace)| {
            let known = self.namespaces.get(namespace).or_else(|| {
                let has_upper = namespace.bytes().any(|byte| byte.is_ascii_uppercase());
                self.namespaces.values().find(|known| has_upper && known.name.eq_ignore_ascii_case(namespace))
            });
            known.map(|known| (model, known))
        });
        HostScope { namespace: found.map(|(_, namespace)| namespace), model: found.map(|(model, _)| model) }
    }

    /// The model that a path's name means, for a request to `scope` of a gateway with this default namespace.
    pub(crate) fn resolve<'a>(
        &'a self,
        scope: HostScope<'a>,
        name: &str,
        default_namespace: Option<&str>,
    ) -> Result<&'a Arc<Model>, Error> {
        if let Some(named) = scope.model
            && !named.eq_ignore_ascii_case(name)
        {
            return Err(Error::ModelNotFound(format!(
                "the host names model {named:?} and the path {name:?}: name the same one in both"
            )));
        }
        let unknown = |namespace: &str| {
            // Of a host that names a model, the list has that model alone.
            let of_which_host = if scope.model.is_some() { " of a host that names no model" } else { "" };
            Error::ModelNotFound(format!(
                "model {name:?} does not exist in namespace {namespace:?}: GET /v1/models{of_which_host} lists those there are"
            ))
        };
        if let Some(namespace) = scope.namespace {
            return namespace.models.get(name).ok_or_else(|| unknown(namespace.name.as_str()));
        }
        if let Some(namespace) = default_namespace {
            return self.get(namespace, name).ok_or_else(|| unknown(namespace));
        }
        match self.names.get(name).map_or(&[][..], Vec::as_slice) {
            [] => Err(Error::ModelNotFound(format!(
                "model {name:?} does not exist: GET /v1/models lists those there are"
            ))),
            [model] => Ok(model),
            [first, second, ..] => Err(Error::AmbiguousModel {
                name: name.to_owned(),
                first: first.key.namespace.clone(),
                second: second.key.namespace.clone(),
            }),
        }
    }

    /// Whether models of several namespaces have this name.
    pub(crate) fn is_ambiguous(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|models| models.len() > 1)
    }

    /// The models that a catalogue request for `scope` is about.
    pub(crate) fn catalogue<'a>(
        &'a self,
        scope: HostScope<'a>,
        default_namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Model>> {
        let namespace = scope.namespace.map(|namespace| namespace.name.as_str()).or(default_namespace);
        self.models()
            .filter(move |model| namespace.is_none_or(|namespace| model.key.namespace == namespace))
            .filter(move |model| scope.model.is_none_or(|name| model.key.name.eq_ignore_ascii_case(name)))
    }
}
