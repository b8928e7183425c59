//! Who may drain a replica.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use model_wrapper_admin::{AdminError, DrainClaims, TokenSigner, WrapperState};

use crate::wrapper::{PATIENCE, UID, Wrapper, admin_client, binary, fixture, send, signer, specialize, token};

fn soon() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60
}

#[tokio::test]
async fn who_only_reaches_the_port_drains_no_pooled_replica() {
    let wrapper = Wrapper::pooled();
    let client = admin_client();
    let request = specialize("a", "fp32.onnx");
    let stolen = token(&request);
    client.specialize(wrapper.admin, &request, Some(&stolen)).await.unwrap();
    let foreign = TokenSigner::generate().unwrap();
    let tokens = [
        None,
        Some("nonsense".to_owned()),
        Some(stolen),
        Some(foreign.sign_drain(&DrainClaims::new(UID, soon()))),
        Some(signer().sign_drain(&DrainClaims::new("uid-2", soon()))),
        Some(signer().sign_drain(&DrainClaims::new(UID, 1))),
    ];
    for token in tokens {
        let refused = client.wait_for_drain(wrapper.admin, PATIENCE, token.as_deref()).await;
        assert!(matches!(refused, Err(AdminError::Unauthorized(_))), "{token:?}: {refused:?}");
        assert_eq!(wrapper.state().await, WrapperState::Serving);
    }
    // As a preStop hook would ask.
    let refused = send(wrapper.admin, "GET", "/wait-for-drain", &[], String::new()).await.unwrap();
    assert_eq!(refused.status, 401);
    assert_eq!(wrapper.state().await, WrapperState::Serving);

    let token = signer().sign_drain(&DrainClaims::new(UID, soon()));
    client.wait_for_drain(wrapper.admin, PATIENCE, Some(&token)).await.unwrap();
    assert_eq!(wrapper.state().await, WrapperState::Draining);
}

#[tokio::test]
async fn without_a_key_only_who_is_on_the_machine_drains() {
    let pooled = Wrapper::start(binary().args(["--pooled", "--pod-uid", UID]));
    let token = signer().sign_drain(&DrainClaims::new(UID, soon()));
    for token in [None, Some(token.as_str())] {
        let refused = admin_client().wait_for_drain(pooled.admin, PATIENCE, token).await;
        assert!(matches!(&refused, Err(AdminError::Unauthorized(why)) if why.contains("--claim-key")), "{refused:?}");
    }
    let everywhere = ["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0", "--metrics", "127.0.0.1:0"];
    let mut served = Wrapper::start_as_is(binary().arg("--model").arg(fixture("fp32.onnx")).args(everywhere));
    let refused = admin_client().wait_for_drain(served.admin, PATIENCE, None).await;
    assert!(matches!(refused, Err(AdminError::Unauthorized(_))), "{refused:?}");
    assert_eq!(served.state().await, WrapperState::Serving);
    assert!(Command::new("kill").args(["-TERM", &served.pid().to_string()]).status().unwrap().success());
    assert!(served.ended().await.success());
}
