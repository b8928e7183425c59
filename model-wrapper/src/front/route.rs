//! Which of the protocol's calls a path means.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

/// A call of the REST protocols. Names are percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `GET /`: KServe's V1 clients ask it whether the server lives.
    Root,
    /// `GET /v1/models`
    V1Models,
    /// `GET /v1/models/{model}`
    V1Model(Cow<'a, str>),
    /// `POST /v1/models/{model}:predict`
    V1Predict(Cow<'a, str>),
    /// `GET /v2`
    Server,
    /// `GET /v2/health/live`
    Live,
    /// `GET /v2/health/ready`
    Ready,
    /// `GET /v2/models/{model}[/versions/{version}]`
    Model(Target<'a>),
    /// `GET /v2/models/{model}[/versions/{version}]/ready`
    ModelReady(Target<'a>),
    /// `POST /v2/models/{model}[/versions/{version}]/infer`
    Infer(Target<'a>),
    /// `POST /v2/repository/index`
    Index,
    /// `POST /v2/repository/models/{model}/load` and `unload`
    LoadOrUnload,
}

/// A model, and a version where the path has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) model: Cow<'a, str>,
    pub(super) version: Option<Cow<'a, str>>,
}

/// Why a request means no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRoute {
    /// There is nothing at this path.
    #[error(
        "no such path: expected /v1/models/MODEL:predict or /v2/models/MODEL/infer, or one of the calls for metadata and health"
    )]
    Path,
    /// There is, for another method.
    #[error("wrong method: expected {0}")]
    Method(&'static str),
}

/// Reads method and path. HEAD is taken for GET.
pub(super) fn route<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, NoRoute> {
    let mut segments = path.strip_prefix('/').ok_or(NoRoute::Path)?.split('/');
    let (route, wanted) = match segments.next() {
        Some("v1") => v1(segments),
        Some("v2") => v2(segments),
        Some("") if segments.next().is_none() => Some((Route::Root, GET)),
        _ => None,
    }
    .ok_or(NoRoute::Path)?;
    let called = if method == Method::HEAD { &Method::GET } else { method };
    if called.as_str() == wanted { Ok(route) } else { Err(NoRoute::Method(wanted)) }
}

const GET: &str = "GET";
const POST: &str = "POST";

fn v1<'a>(mut segments: impl Iterator<Item = &'a str>) -> Option<(Route<'a>, &'static str)> {
    if segments.next()? != "models" {
        return None;
    }
    let route = match segments.next() {
        None | Some("") => (Route::V1Models, GET),
        Some(segment) => match segment.rsplit_once(':') {
            Some((model, "predict")) => (Route::V1Predict(decode(model)?), POST),
            // KServe's other verb, which asks an explainer that a wrapper does not have.
            Some((_, "explain")) => return None,
            _ => (Route::V1Model(decode(segment)?), GET),
        },
    };
    segments.next().is_none().then_some(route)
}

fn v2<'a>(segments: impl Iterator<Item = &'a str>) -> Option<(Route<'a>, &'static str)> {
    // The longest path has five segments after the first; a sixth is one too many.
    let mut parts = [""; 6];
    let mut count = 0;
    for segment in segments {
        *parts.get_mut(count)? = segment;
        count += 1;
    }
    let target = |model: &'a str, version: Option<&'a str>| {
        Some(Target {
            model: decode(model)?,
            version: version.map(decode).map_or(Some(None), |decoded| decoded.map(Some))?,
        })
    };
    Some(match &parts[..count] {
        [] | [""] => (Route::Server, GET),
        ["health", "live"] => (Route::Live, GET),
        ["health", "ready"] => (Route::Ready, GET),
        ["models", model] => (Route::Model(target(model, None)?), GET),
        ["models", model, "ready"] => (Route::ModelReady(target(model, None)?), GET),
        ["models", model, "infer"] => (Route::Infer(target(model, None)?), POST),
        ["models", model, "versions", version] => (Route::Model(target(model, Some(version))?), GET),
        ["models", model, "versions", version, "ready"] => (Route::ModelReady(target(model, Some(version))?), GET),
        ["models", model, "versions", version, "infer"] => (Route::Infer(target(model, Some(version))?), POST),
        ["repository", "index"] => (Route::Index, POST),
        ["repository", "models", _, "load" | "unload"] => (Route::LoadOrUnload, POST),
        _ => return None,
    })
}

fn decode(segment: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(segment).decode_utf8().ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
