//! What a request's method and path ask for. Pure: no table, no state.
//!
//! Paths are matched byte for byte, without decoding: model names are Kubernetes names, which need none, and a gateway that
//! decodes what the replica behind it does not (or the other way round) is how requests get smuggled past a router.

use http::Method;
use memchr::{memchr_iter, memrchr};

use crate::error::Error;
use crate::inference::Wake;

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `GET /`: KServe's V1 clients ask it whether the server lives.
    Root,
    /// `GET /v2/health/live`
    Live,
    /// `GET /v2/health/ready`
    Ready,
    /// `GET /v2`
    ServerMetadata,
    /// `GET /v1/models`
    ModelList,
    /// `POST /v2/repository/index`
    RepositoryIndex,
    /// `POST /v2/repository/models/NAME/{load,unload}`: models come from their `Model` objects, so it is refused.
    RepositoryControl,
    /// A path about one model, and about one version of it where the path names one.
    Model { name: &'a str, version: Option<&'a str>, action: Action },
    /// A gRPC method of `inference.GRPCInferenceService`.
    Grpc(GrpcMethod),
}

/// What a path asks of its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run it: what wakes a model.
    Infer,
    /// `GET /v2/models/NAME`
    Metadata,
    /// `GET /v2/models/NAME/ready`
    Ready,
    /// `GET /v1/models/NAME`
    Status,
    /// A call that other model servers have and KFerving's own does not.
    Foreign { verb: &'static str, wake: Wake },
}

/// The gRPC methods that the gateway tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcMethod {
    ServerLive,
    ServerReady,
    ServerMetadata,
    ModelReady,
    ModelMetadata,
    ModelInfer,
    ModelStreamInfer,
    RepositoryIndex,
    /// `RepositoryModelLoad` and `RepositoryModelUnload`, as [`Route::RepositoryControl`].
    RepositoryControl,
}

const GRPC_SERVICE: &str = "/inference.GRPCInferenceService/";

/// The methods of that service by name.
const GRPC_METHODS: [(&str, GrpcMethod); 10] = [
    ("ServerLive", GrpcMethod::ServerLive),
    ("ServerReady", GrpcMethod::ServerReady),
    ("ServerMetadata", GrpcMethod::ServerMetadata),
    ("ModelReady", GrpcMethod::ModelReady),
    ("ModelMetadata", GrpcMethod::ModelMetadata),
    ("ModelInfer", GrpcMethod::ModelInfer),
    ("ModelStreamInfer", GrpcMethod::ModelStreamInfer),
    ("RepositoryIndex", GrpcMethod::RepositoryIndex),
    ("RepositoryModelLoad", GrpcMethod::RepositoryControl),
    ("RepositoryModelUnload", GrpcMethod::RepositoryControl),
];

impl<'a> Route<'a> {
    /// The route of a request for `path` (without its query).
    pub(crate) fn of(method: &Method, path: &'a str) -> Result<Self, Error> {
        let (route, allowed) = Self::find(path).ok_or_else(|| no_route(path))?;
        let fits = *method == allowed || (allowed == Method::GET && *method == Method::HEAD);
        if fits {
            return Ok(route);
        }
        let allowed = if allowed == Method::GET { "GET" } else { "POST" };
        Err(Error::MethodNotAllowed { method: method.as_str().to_owned(), allowed })
    }

    fn find(path: &'a str) -> Option<(Self, Method)> {
        if path == "/" {
            return Some((Self::Root, Method::GET));
        }
        if let Some(rest) = path.strip_prefix("/v2") {
            return Self::find_v2(rest);
        }
        if let Some(rest) = path.strip_prefix("/v1/models") {
            return Self::find_v1(rest);
        }
        let called = path.strip_prefix(GRPC_SERVICE)?;
        let (_, method) = GRPC_METHODS.iter().find(|(name, _)| *name == called)?;
        Some((Self::Grpc(*method), Method::POST))
    }

    fn find_v1(rest: &'a str) -> Option<(Self, Method)> {
        if rest.is_empty() || rest == "/" {
            return Some((Self::ModelList, Method::GET));
        }
        let rest = rest.strip_prefix('/')?;
        let (name, action, method) = match rest.rsplit_once(':') {
            Some((name, "predict")) => (name, Action::Infer, Method::POST),
            Some((name, "explain")) => (name, Action::Foreign { verb: "explain", wake: Wake::Yes }, Method::POST),
            Some(_) => return None,
            None => (rest, Action::Status, Method::GET),
        };
        is_name(name).then_some((Self::Model { name, version: None, action }, method))
    }

    fn find_v2(rest: &'a str) -> Option<(Self, Method)> {
        match rest {
            "" | "/" => return Some((Self::ServerMetadata, Method::GET)),
            "/health/live" => return Some((Self::Live, Method::GET)),
            "/health/ready" => return Some((Self::Ready, Method::GET)),
            "/repository/index" => return Some((Self::RepositoryIndex, Method::POST)),
            _ => {}
        }
        if let Some(rest) = rest.strip_prefix("/repository/models/") {
            let (name, verb) = rest.split_once('/')?;
            let known = is_name(name) && matches!(verb, "load" | "unload");
            return known.then_some((Self::RepositoryControl, Method::POST));
        }
        let rest = rest.strip_prefix("/models/")?;
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (version, verb) = match rest.strip_prefix("versions/") {
            Some(versioned) => {
                let (version, verb) = versioned.split_once('/').unwrap_or((versioned, ""));
                (is_name(version).then_some(Some(version))?, verb)
            }
            None => (None, rest),
        };
        let (action, method) = match verb {
            "" => (Action::Metadata, Method::GET),
            "ready" => (Action::Ready, Method::GET),
            "infer" => (Action::Infer, Method::POST),
            "generate" => (Action::Foreign { verb: "generate", wake: Wake::Yes }, Method::POST),
            "generate_stream" => (Action::Foreign { verb: "generate_stream", wake: Wake::Yes }, Method::POST),
            "stats" => (Action::Foreign { verb: "stats", wake: Wake::No }, Method::GET),
            "config" => (Action::Foreign { verb: "config", wake: Wake::No }, Method::GET),
            _ => return None,
        };
        is_name(name).then_some((Self::Model { name, version, action }, method))
    }
}

/// Whether `text` can be a model's name or version: something that is not empty and has no separator.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', ':'])
}

/// Why nothing is at `path`, in the words of the protocol that it is of.
fn no_route(path: &str) -> Error {
    match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some((service, method)) if service.contains('.') && !method.contains('/') => {
            let known: Vec<_> = GRPC_METHODS.iter().map(|(name, _)| *name).collect();
            Error::NoMethod { called: shown(path), known: known.join(", ") }
        }
        _ => Error::NoRoute(shown(path)),
    }
}

/// Longest part of a path that an error message repeats.
const SHOWN_PATH_BYTES: usize = 200;

fn shown(path: &str) -> String {
    path.chars().take(SHOWN_PATH_BYTES).collect()
}

/// The first two labels of a `Host` that could be `MODEL.NAMESPACE.…`: not an address, at least two labels.
pub(crate) fn host_labels(host: &str) -> Option<(&str, &str)> {
    let port = memrchr(b':', host.as_bytes()).map(|colon| host.split_at(colon));
    let name = match port {
        Some((name, port)) if port.bytes().skip(1).all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.starts_with('[') || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let mut dots = memchr_iter(b'.', name.as_bytes());
    let first = dots.next()?;
    let (model, namespace) = (&name[..first], &name[first + 1..dots.next().unwrap_or(name.len())]);
    (!model.is_empty() && !namespace.is_empty()).then_some((model, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, action: Action) -> Route<'_> {
        Route::Model { name, version: None, action }
    }

    fn of_version<'a>(version: &'a str, action: Action) -> Route<'a> {
        Route::Model { name: "m", version: Some(version), action }
    }

    fn foreign(verb: &'static str, wake: Wake) -> Route<'static> {
        model("m", Action::Foreign { verb, wake })
    }

    #[test]
    fn paths_of_the_protocols() {
        let cases = [
            ("GET", "/", Route::Root),
            ("GET", "/v1/models", Route::ModelList),
            ("GET", "/v1/models/m", model("m", Action::Status)),
            ("POST", "/v1/models/m:predict", model("m", Action::Infer)),
            ("POST", "/v1/models/m:explain", foreign("explain", Wake::Yes)),
            ("GET", "/v2", Route::ServerMetadata),
            ("HEAD", "/v2/", Route::ServerMetadata),
            ("GET", "/v2/health/live", Route::Live),
            ("GET", "/v2/health/ready", Route::Ready),
            ("GET", "/v2/models/m", model("m", Action::Metadata)),
            ("GET", "/v2/models/m/versions/1", of_version("1", Action::Metadata)),
            ("GET", "/v2/models/m/ready", model("m", Action::Ready)),
            ("GET", "/v2/models/m/versions/1/ready", of_version("1", Action::Ready)),
            ("POST", "/v2/models/m/infer", model("m", Action::Infer)),
            ("POST", "/v2/models/m/versions/3/infer", of_version("3", Action::Infer)),
            ("POST", "/v2/models/m/generate_stream", foreign("generate_stream", Wake::Yes)),
            ("GET", "/v2/models/m/stats", foreign("stats", Wake::No)),
            ("POST", "/v2/repository/index", Route::RepositoryIndex),
            ("POST", "/v2/repository/models/m/load", Route::RepositoryControl),
            ("POST", "/inference.GRPCInferenceService/ModelInfer", Route::Grpc(GrpcMethod::ModelInfer)),
            ("POST", "/inference.GRPCInferenceService/RepositoryIndex", Route::Grpc(GrpcMethod::RepositoryIndex)),
            ("POST", "/inference.GRPCInferenceService/RepositoryModelLoad", Route::Grpc(GrpcMethod::RepositoryControl)),
            ("POST", "/inference.GRPCInferenceService/ServerLive", Route::Grpc(GrpcMethod::ServerLive)),
        ];
        for (method, path, route) in cases {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(Route::of(&method, path), Ok(route), "{method} {path}");
        }
    }

    #[test]
    fn what_is_no_route() {
        for path in [
            "",
            "/v1",
            "/v3",
            "/v2x",
            "/v1/modelsx",
            "/v1/models/",
            "/v1/models/:predict",
            "/v1/models/m:delete",
            "/v1/models/a/b:predict",
            "/v2/models",
            "/v2/models/",
            "/v2/models//infer",
            "/v2/models/m/versions//infer",
            "/v2/models/m/versions",
            "/v2/models/m/infer/x",
            "/v2/models/m/trace/setting",
            "/v2/repository/models/m/reload",
        ] {
            let found = Route::of(&Method::GET, path);
            let expected_list = path == "/v1/models/";
            assert_eq!(found == Ok(Route::ModelList), expected_list, "{path}: {found:?}");
            assert!(expected_list || matches!(found, Err(Error::NoRoute(_))), "{path}: {found:?}");
        }
    }

    #[test]
    fn a_method_that_is_none_is_told_those_of_grpc() {
        for path in ["/inference.GRPCInferenceService/ModelConfig", "/grpc.health.v1.Health/Check"] {
            let message = Route::of(&Method::POST, path).unwrap_err().to_string();
            assert!(message.contains(path) && message.contains("ModelInfer"), "{message}");
            assert!(!message.contains("/v1/models"), "{message}");
        }
    }

    #[test]
    fn a_wrong_method_names_the_right_one() {
        let refused = Route::of(&Method::GET, "/v2/models/m/infer");
        assert_eq!(refused, Err(Error::MethodNotAllowed { method: "GET".into(), allowed: "POST" }));
        let refused = Route::of(&Method::POST, "/v2/models/m/ready");
        assert_eq!(refused, Err(Error::MethodNotAllowed { method: "POST".into(), allowed: "GET" }));
    }

    #[test]
    fn hosts_that_may_name_a_model() {
        assert_eq!(host_labels("digits.vision.example.com:8080"), Some(("digits", "vision")));
        assert_eq!(host_labels("digits.vision"), Some(("digits", "vision")));
        for plain in ["localhost", "localhost:80", "127.0.0.1:8080", "10.0.0.1", "[::1]:80", ".vision", "digits.", ""] {
            assert_eq!(host_labels(plain), None, "{plain}");
        }
    }
}
