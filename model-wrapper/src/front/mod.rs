//! The prediction protocols on the traffic port: V1 and V2 over HTTP/1.1 and h2c, gRPC beside them, Knative's probes.
//!
//! It is a hyper service with its own small router and no framework: V1's `MODEL:predict` fits no path pattern, and what can be
//! refused must be before the body is touched.

mod body;
mod catalogue;
mod deadline;
mod error;
mod grpc;
mod infer;
mod metrics;
mod owed;
mod probe;
mod respond;
mod route;
mod server;
mod stall;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, panic::AssertUnwindSafe};

use futures::FutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use model_wrapper_protocol::InferError;

use self::{
    body::FrontBody,
    grpc::Grpc,
    infer::Form,
    metrics::Protocol,
    route::{Route, Target},
};
use crate::serving::Serving;

pub use metrics::FrontMetrics;

/// The prediction front; cheap to clone.
#[derive(Clone)]
pub struct Front {
    serving: Serving,
    metrics: FrontMetrics,
    grpc: Grpc,
}

impl Front {
    /// A front for what `serving` holds.
    pub fn new(serving: Serving, metrics: FrontMetrics) -> Self {
        let grpc = Grpc::new(serving.clone(), metrics.clone());
        Self { serving, metrics, grpc }
    }

    /// Answers a request. A panic on the way costs that request alone, not the others of its connection.
    async fn answer(self, request: Request<Incoming>) -> Result<Response<FrontBody>, Infallible> {
        let answer = AssertUnwindSafe(self.dispatch(request)).catch_unwind().await;
        Ok(answer
            .unwrap_or_else(|_| error::response(&InferError::Internal("this server failed on the request".into()))))
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Response<FrontBody> {
        if let Some(answer) = probe::answer(request.headers(), || self.serving.readiness()) {
            let mut response = respond::text(answer.status, answer.body);
            if let Some(hash) = answer.hash {
                response.headers_mut().insert(probe::HASH, hash);
            }
            return response;
        }
        if grpc::is_grpc(&request) {
            return self.grpc.call(request).await.unwrap_or_else(|error| error::response(&error));
        }
        let uri = request.uri().clone();
        let route = match route::route(probe::method(&request), uri.path()) {
            Ok(route) => route,
            Err(error) => return error::no_route(error),
        };
        self.call(route, request).await.unwrap_or_else(|error| error::response(&error))
    }

    async fn call(&self, route: Route<'_>, request: Request<Incoming>) -> Result<Response<FrontBody>, InferError> {
        match route {
            Route::V1Predict(model) => self.infer(Protocol::V1, &Target { model, version: None }, request).await,
            Route::Infer(target) => self.infer(Protocol::V2, &target, request).await,
            Route::V1Models => Ok(catalogue::v1_models(&self.serving)),
            Route::V1Model(model) => catalogue::model_ready(&self.serving, &Target { model, version: None }),
            Route::Root => Ok(catalogue::root()),
            Route::Server => Ok(catalogue::server()),
            Route::Live => Ok(catalogue::live()),
            Route::Ready => Ok(catalogue::ready(&self.serving)),
            Route::Model(target) => catalogue::model(&self.serving, &target),
            Route::ModelReady(target) => catalogue::model_ready(&self.serving, &target),
            Route::Index => catalogue::index(&self.serving, request.into_body()).await,
            Route::LoadOrUnload => Err(catalogue::fixed_model()),
        }
    }

    async fn infer(
        &self,
        protocol: Protocol,
        target: &Target<'_>,
        request: Request<Incoming>,
    ) -> Result<Response<FrontBody>, InferError> {
        let measured = self.metrics.begin(protocol);
        let admitted = infer::admit(&self.serving, request.headers(), target).and_then(|served| {
            let form = match protocol {
                Protocol::V1 => Form::V1,
                Protocol::V2 | Protocol::Grpc => infer::v2_form(request.headers())?,
            };
            Ok((served, form))
        });
        let answer = match admitted {
            Ok((served, form)) => infer::run(served, request, form).await,
            Err(error) => {
                let (head, body) = request.into_parts();
                body::discard(&head.headers, body);
                Err(error)
            }
        };
        match &answer {
            Ok(_) => measured.answered(),
            Err(error) => measured.failed(error.reason()),
        }
        answer
    }
}
