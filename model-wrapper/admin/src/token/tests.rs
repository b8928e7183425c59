use super::*;

const NOW: u64 = 1_900_000_000;

fn claims() -> TokenClaims {
    TokenClaims {
        pod_uid: "uid-1".into(),
        claim_id: "claim-1".into(),
        digest: format!("sha256:{}", "a".repeat(64)),
        expires: NOW + 60,
    }
}

fn pair() -> (TokenSigner, TokenVerifier) {
    let signer = TokenSigner::generate().unwrap();
    let verifier = TokenVerifier::from_base64(&signer.public_key()).unwrap();
    (signer, verifier)
}

#[test]
fn a_signed_token_is_accepted_for_what_it_names() {
    let (signer, verifier) = pair();
    let token = signer.sign(&claims());
    assert_eq!(verifier.verify(&token, NOW), Ok(claims()));
    let digest = claims().digest;
    assert_eq!(verifier.verify_for(&token, ("uid-1", "claim-1", &digest), NOW), Ok(()));
}

#[test]
fn it_is_refused_for_anything_else() {
    let (signer, verifier) = pair();
    let token = signer.sign(&claims());
    let digest = claims().digest;
    for (names, what) in [
        (("uid-2", "claim-1", digest.as_str()), "replica (sub)"),
        (("uid-1", "claim-2", digest.as_str()), "claim (jti)"),
        (("uid-1", "claim-1", "sha256:00"), "model (digest)"),
    ] {
        assert_eq!(verifier.verify_for(&token, names, NOW), Err(TokenError::Mismatch(what)));
    }
}

#[test]
fn it_expires_on_the_second() {
    let (signer, verifier) = pair();
    let token = signer.sign(&claims());
    assert!(verifier.verify(&token, NOW + 59).is_ok());
    assert_eq!(verifier.verify(&token, NOW + 60), Err(TokenError::Expired { expires: NOW + 60, now: NOW + 60 }));
}

#[test]
fn another_key_or_a_changed_byte_breaks_the_signature() {
    let (signer, _) = pair();
    let (_, other) = pair();
    let token = signer.sign(&claims());
    assert_eq!(other.verify(&token, NOW), Err(TokenError::Signature));

    let verifier = TokenVerifier::from_base64(&signer.public_key()).unwrap();
    let mut forged = claims();
    forged.expires += 1_000_000;
    let (head, rest) = token.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&forged).unwrap());
    assert_eq!(verifier.verify(&format!("{head}.{payload}.{signature}"), NOW), Err(TokenError::Signature));
}

#[test]
fn the_header_cannot_choose_the_algorithm() {
    let (signer, verifier) = pair();
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims()).unwrap());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"HS256","typ":"JWT"}"#,
        r#"{"alg":"eddsa"}"#,
        r#"{"alg":"EdDSA","crit":["b64"],"b64":false}"#,
    ] {
        let signed = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header));
        let hmac_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &verifier.key);
        let hmac = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&hmac_key, signed.as_bytes()));
        let real = URL_SAFE_NO_PAD.encode(signer.key.sign(signed.as_bytes()));
        for signature in ["", &hmac, &real] {
            assert_eq!(verifier.verify(&format!("{signed}.{signature}"), NOW), Err(TokenError::Algorithm), "{header}");
        }
    }
}

#[test]
fn anything_malformed_is_an_error() {
    let (signer, verifier) = pair();
    let good = signer.sign(&claims());
    for token in ["", ".", "..", "a.b", "a.b.c.d", &format!("{good}="), &"x".repeat(MAX_TOKEN_BYTES + 1)] {
        assert!(verifier.verify(token, NOW).is_err(), "{token:.40}");
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(r#"{"sub":"uid-1"}"#));
    let signature = URL_SAFE_NO_PAD.encode(signer.key.sign(signed.as_bytes()));
    assert!(matches!(verifier.verify(&format!("{signed}.{signature}"), NOW), Err(TokenError::Malformed(_))));
}

#[test]
fn a_stored_key_signs_the_same() {
    let document = TokenSigner::generate_pkcs8().unwrap();
    let one = TokenSigner::from_pkcs8(&document).unwrap();
    let two = TokenSigner::from_pkcs8(&document).unwrap();
    assert_eq!(one.sign(&claims()), two.sign(&claims()));
    assert!(TokenSigner::from_pkcs8(b"no key").is_err());
}

#[test]
fn a_bad_public_key_is_named() {
    assert!(TokenVerifier::from_base64("AAAA").unwrap_err().to_string().contains("got 3 bytes"));
    assert!(TokenVerifier::from_base64("not base64!").unwrap_err().to_string().contains("no base64"));
}

#[test]
fn a_drain_has_a_token_of_its_own() {
    let (signer, verifier) = pair();
    let (_, other) = pair();
    let token = signer.sign_drain(&DrainClaims::new("uid-1", NOW + 60));
    assert_eq!(verifier.verify_drain(&token, "uid-1", NOW), Ok(()));
    assert_eq!(verifier.verify_drain(&token, "uid-2", NOW), Err(TokenError::Mismatch("replica (sub)")));
    let expired = TokenError::Expired { expires: NOW + 60, now: NOW + 60 };
    assert_eq!(verifier.verify_drain(&token, "uid-1", NOW + 60), Err(expired));
    assert_eq!(other.verify_drain(&token, "uid-1", NOW), Err(TokenError::Signature));
}

#[test]
fn neither_token_does_for_the_other_call() {
    let (signer, verifier) = pair();
    let drain = signer.sign_drain(&DrainClaims::new("uid-1", NOW + 60));
    assert!(matches!(verifier.verify(&drain, NOW), Err(TokenError::Malformed(_))));
    let specialize = signer.sign(&claims());
    assert!(matches!(verifier.verify_drain(&specialize, "uid-1", NOW), Err(TokenError::Malformed(_))));
}
