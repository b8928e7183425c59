use super::*;

fn target(model: &'static str, version: Option<&'static str>) -> Target<'static> {
    Target { model: model.into(), version: version.map(Into::into) }
}

#[test]
fn every_call_has_its_path() {
    let get = [
        ("/v1/models", Route::V1Models),
        ("/v1/models/", Route::V1Models),
        ("/v1/models/digits", Route::V1Model("digits".into())),
        ("/v2", Route::Server),
        ("/v2/", Route::Server),
        ("/", Route::Root),
        ("/v2/health/live", Route::Live),
        ("/v2/health/ready", Route::Ready),
        ("/v2/models/digits", Route::Model(target("digits", None))),
        ("/v2/models/digits/ready", Route::ModelReady(target("digits", None))),
        ("/v2/models/digits/versions/1", Route::Model(target("digits", Some("1")))),
        ("/v2/models/digits/versions/1/ready", Route::ModelReady(target("digits", Some("1")))),
    ];
    let post = [
        ("/v1/models/digits:predict", Route::V1Predict("digits".into())),
        ("/v1/models/a:b:predict", Route::V1Predict("a:b".into())),
        ("/v2/models/digits/infer", Route::Infer(target("digits", None))),
        ("/v2/models/digits/versions/2/infer", Route::Infer(target("digits", Some("2")))),
        ("/v2/repository/index", Route::Index),
        ("/v2/repository/models/digits/load", Route::LoadOrUnload),
        ("/v2/repository/models/digits/unload", Route::LoadOrUnload),
    ];
    for (path, expected) in get {
        assert_eq!(route(&Method::GET, path), Ok(expected.clone()), "{path}");
        assert_eq!(route(&Method::HEAD, path), Ok(expected), "{path}");
        assert_eq!(route(&Method::POST, path), Err(NoRoute::Method("GET")), "{path}");
    }
    for (path, expected) in post {
        assert_eq!(route(&Method::POST, path), Ok(expected), "{path}");
        assert_eq!(route(&Method::GET, path), Err(NoRoute::Method("POST")), "{path}");
    }
}

#[test]
fn names_are_decoded_once() {
    assert_eq!(route(&Method::POST, "/v1/models/a%20b%3Apredict:predict"), Ok(Route::V1Predict("a b:predict".into())));
    assert_eq!(route(&Method::GET, "/v2/models/%2e%2e%2fetc"), Ok(Route::Model(target("../etc", None))));
    assert_eq!(route(&Method::GET, "/v2/models/%2541"), Ok(Route::Model(target("%41", None))));
}

#[test]
fn anything_else_is_no_path() {
    for path in [
        "",
        "//",
        "*",
        "/v3",
        "/v1",
        "/v1/model/digits",
        "/v1/models/digits/x",
        "/v1/models/:predict",
        "/v1/models/digits:explain",
        "/v2/models",
        "/v2/models/",
        "/v2/models//infer",
        "/v2/models/%ff/infer",
        "/v2/models/a/versions/1/infer/x",
        "/v2/models/a/b/c/d/e/f/g",
        "/v2/models/a/versions//infer",
        "/v2/repository/models/a/drop",
        "/v2/health",
    ] {
        assert_eq!(route(&Method::POST, path), Err(NoRoute::Path), "{path}");
        assert_eq!(route(&Method::GET, path), Err(NoRoute::Path), "{path}");
    }
}
