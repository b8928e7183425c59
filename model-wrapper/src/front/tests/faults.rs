//! Models that hang, panic or answer without end.

use super::*;

#[tokio::test]
async fn a_model_that_hangs_costs_deadlines_and_nothing_else() {
    let mut served = serve().await;
    for _ in 0..2 {
        let (status, reason, _) = served.infer(HANG, "0.05").await;
        assert_eq!((status, reason.as_deref()), (504, Some("deadline")));
        assert_eq!(served.ready().await, 200);
    }
    served.let_go.store(true, Ordering::SeqCst);
    assert_eq!(served.infer(ECHO, "30").await.0, 200);
}

#[tokio::test]
async fn a_model_that_panics_costs_its_request() {
    let mut served = serve().await;
    for _ in 0..3 {
        let (status, reason, _) = served.infer(PANIC, "30").await;
        assert_eq!((status, reason.as_deref()), (500, Some("internal")));
        assert_eq!(served.infer(ECHO, "30").await.0, 200);
    }
}

#[tokio::test]
async fn a_huge_answer_arrives_whole() {
    let mut served = serve().await;
    let (status, _, body) = served.infer(HUGE, "60").await;
    assert_eq!(status, 200);
    assert!(body.ends_with(&vec![7; HUGE_BYTES]));

    let body = format!(r#"{{"instances":[{HUGE}]}}"#);
    let (status, _, body) = served.send(Request::post("/v1/models/fake:predict"), body).await;
    assert_eq!(status, 200);
    assert_eq!(body.len(), r#"{"predictions":[]}"#.len() + 2 * HUGE_BYTES - 1);
}
