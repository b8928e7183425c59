//! Specialize calls.

use model_wrapper_admin::{AdminError, TokenClaims, TokenSigner, WrapperState};

use crate::wrapper::{Wrapper, admin_client, fixture, numbers, send, signer, specialize, token};

#[tokio::test]
async fn of_64_claims_at_once_one_wins_and_is_served() {
    let wrapper = Wrapper::pooled();
    assert_eq!(wrapper.get(wrapper.traffic, "/v2/health/ready").await.status, 200);
    assert_eq!(wrapper.infer("m", &numbers([1.0; 3]), &[]).await.status, 404);
    let client = admin_client();
    let calls: Vec<_> = (0..64)
        .map(|index| {
            let (client, admin) = (client.clone(), wrapper.admin);
            let request = specialize(&format!("claim-{}", index % 32), "fp32.onnx");
            tokio::spawn(async move { client.specialize(admin, &request, Some(&token(&request))).await })
        })
        .collect();
    let (mut winners, mut holders) = (Vec::new(), Vec::new());
    for call in calls {
        match call.await.unwrap() {
            Ok(response) => winners.push(response),
            Err(AdminError::Conflict(conflict)) => holders.push(conflict.claim_id),
            Err(other) => panic!("{other}"),
        }
    }
    // Each claim called twice: the winner was answered the same both times.
    assert_eq!((winners.len(), holders.len()), (2, 62));
    assert_eq!(winners[0], winners[1]);
    assert!(holders.iter().all(|holder| *holder == winners[0].claim_id));
    assert_eq!(winners[0].metadata["inputs"][0]["shape"], serde_json::json!([-1, 3]));

    let request = specialize(&winners[0].claim_id, "fp32.onnx");
    let identity = format!("{}@{}", request.revision, request.digest);
    let answer = wrapper.infer("m", &numbers([1.0, 2.0, 3.0]), &[("kferving-revision", &identity)]).await;
    assert_eq!(answer.body["outputs"][0]["data"], serde_json::json!([2.0, 4.0, 6.0]));

    let state = client.state(wrapper.admin).await.unwrap();
    assert_eq!(state.state, WrapperState::Serving);
    assert_eq!(state.claim_id, Some(winners[0].claim_id.clone()));
    assert_eq!(state.digest, Some(request.digest));
    assert_eq!(state.phases, Some(winners[0].phases));
    assert_eq!(state.pod_uid.as_deref(), Some(crate::wrapper::UID));
}

#[tokio::test]
async fn only_the_revision_held_is_answered() {
    let wrapper = Wrapper::pooled();
    let request = specialize("a", "fp32.onnx");
    admin_client().specialize(wrapper.admin, &request, Some(&token(&request))).await.unwrap();
    let other_digest = format!("{}@sha256:{}", request.revision, "0".repeat(64));
    let other_revision = format!("ns/m-cpu-00002@{}", request.digest);
    for headers in
        [vec![], vec![("kferving-revision", other_digest.as_str())], vec![("kferving-revision", &other_revision)]]
    {
        let refused = wrapper.infer("m", &numbers([1.0; 3]), &headers).await;
        assert_eq!(refused.status, 421, "{headers:?}");
        assert_eq!(refused.headers["kferving-reason"], "misdirected");
    }
}

#[tokio::test]
async fn without_the_right_token_nothing_happens() {
    let wrapper = Wrapper::pooled();
    let request = specialize("a", "fp32.onnx");
    let claims = |pod_uid: &str, claim_id: &str, expires: u64| TokenClaims {
        pod_uid: pod_uid.into(),
        claim_id: claim_id.into(),
        digest: request.digest.clone(),
        expires,
    };
    let foreign = TokenSigner::generate().unwrap();
    let tokens = [
        None,
        Some("nonsense".to_owned()),
        Some(foreign.sign(&claims("uid-1", "a", u64::MAX))),
        Some(signer().sign(&claims("uid-1", "a", 1))),
        Some(signer().sign(&claims("uid-1", "b", u64::MAX))),
        Some(signer().sign(&claims("uid-2", "a", u64::MAX))),
    ];
    for token in tokens {
        let refused = admin_client().specialize(wrapper.admin, &request, token.as_deref()).await;
        assert!(matches!(refused, Err(AdminError::Unauthorized(_))), "{token:?}: {refused:?}");
    }
    assert_eq!(wrapper.state().await, WrapperState::Idle);

    let mut elsewhere = request.clone();
    elsewhere.pod_uid = "uid-2".into();
    let refused = admin_client().specialize(wrapper.admin, &elsewhere, Some(&token(&elsewhere))).await;
    assert!(matches!(refused, Err(AdminError::WrongReplica(_))), "{refused:?}");
    for (method, path, body, status) in [
        ("POST", "/specialize", "{}".to_owned(), 400),
        ("POST", "/specialize", " ".repeat(2 << 20), 413),
        ("GET", "/specialize", String::new(), 405),
        ("GET", "/wait-for-drain?timeoutMs=soon", String::new(), 400),
        ("GET", "/nothing", String::new(), 404),
    ] {
        let garbage = send(wrapper.admin, method, path, &[], body).await.unwrap();
        assert_eq!(garbage.status, status, "{method} {path}");
        assert!(garbage.body["error"].is_string(), "{method} {path}: {}", garbage.body);
    }
    assert_eq!(wrapper.state().await, WrapperState::Idle);
}

#[tokio::test]
async fn a_wrong_digest_or_model_is_rejected_with_the_reason() {
    for (file, digest, words) in [
        ("fp32.onnx", Some(format!("sha256:{}", "0".repeat(64))), "has the digest sha256:"),
        ("sequence-output.onnx", None, "output 'parts'"),
        ("external/escape.onnx", None, "external data '../../../../etc/passwd' is refused"),
    ] {
        let wrapper = Wrapper::pooled();
        let mut request = specialize("a", "fp32.onnx");
        request.model.uri = format!("file://{}", fixture(file).display());
        request.digest = digest.unwrap_or_else(|| sha256sum(file));
        let refused = admin_client().specialize(wrapper.admin, &request, Some(&token(&request))).await;
        assert!(matches!(&refused, Err(AdminError::Rejected(why)) if why.contains(words)), "{file}: {refused:?}");
        let state = admin_client().state(wrapper.admin).await.unwrap();
        assert_eq!(state.state, WrapperState::Failed);
        assert!(state.error.unwrap().contains(words));
        assert_eq!(wrapper.get(wrapper.traffic, "/v2/health/ready").await.status, 503);
        let answer = wrapper.infer("m", &numbers([1.0; 3]), &[]).await;
        assert_eq!(answer.headers["kferving-reason"], "load-failed");
        assert!(!answer.body.to_string().contains('/'), "paths are not the caller's business: {}", answer.body);
    }
}

#[tokio::test]
async fn a_wrapper_with_a_model_takes_no_claim() {
    let wrapper = Wrapper::serving("fp32.onnx", &["--claim-key", &signer().public_key(), "--pod-uid", "uid-1"]);
    let request = specialize("a", "fp32.onnx");
    let refused = admin_client().specialize(wrapper.admin, &request, Some(&token(&request))).await;
    assert!(matches!(refused, Err(AdminError::Conflict(_))), "{refused:?}");
}

fn sha256sum(file: &str) -> String {
    let output = std::process::Command::new("sha256sum").arg(fixture(file)).output().unwrap();
    format!("sha256:{}", String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap())
}
