//! The tokens that let specialize and drain calls through: compact JWS (RFC 7515) signed with Ed25519 (`EdDSA`, RFC 8037).
//!
//! One for a specialize call names one replica, one claim and one digest, one for a drain names the replica and says that it is
//! for a drain. So whoever captures one can only repeat the call it was made for. The algorithm is fixed: the header is
//! compared, never used to choose one.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// Longest token that is looked at. A real one has about 400 bytes; the bound keeps a hostile header from costing work.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// What the token of a specialize call vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenClaims {
    /// Uid of the replica that may be specialized.
    #[serde(rename = "sub")]
    pub pod_uid: String,
    /// The claim.
    #[serde(rename = "jti")]
    pub claim_id: String,
    /// Digest of the model that may be loaded, `sha256:HEX`.
    pub digest: String,
    /// Unix time in seconds from which the token is no longer accepted.
    #[serde(rename = "exp")]
    pub expires: u64,
}

/// What the token of a drain vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainClaims {
    /// Uid of the replica that may be drained.
    #[serde(rename = "sub")]
    pub pod_uid: String,
    /// What tells it from the token of a specialize call, which has no such claim.
    #[serde(rename = "act")]
    action: DrainAction,
    /// Unix time in seconds from which the token is no longer accepted.
    #[serde(rename = "exp")]
    pub expires: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DrainAction {
    Drain,
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness.
    #[error("no key could be generated: the system's random source failed")]
    Generate,
    /// The private key is not a PKCS#8 document with an Ed25519 key.
    #[error("the private key is not an Ed25519 key in PKCS#8: {0}")]
    Private(String),
    /// The public key is not 32 bytes in base64.
    #[error("the public key must be {ED25519_PUBLIC_KEY_LEN} bytes in base64 (an Ed25519 key), got {0}")]
    Public(String),
}

/// Why a token was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three base64url parts with the expected JSON.
    #[error("malformed token: {0}")]
    Malformed(&'static str),
    /// Its header names another algorithm.
    #[error("the token's header must be exactly alg EdDSA, without critical extensions")]
    Algorithm,
    /// The signature does not match.
    #[error("the token's signature does not match the claim key")]
    Signature,
    /// Its time is over.
    #[error("the token expired at {expires} (unix seconds), now is {now}")]
    Expired {
        /// Unix seconds.
        expires: u64,
        /// Unix seconds.
        now: u64,
    },
    /// It is for something else.
    #[error("the token is for another {0}")]
    Mismatch(&'static str),
}

/// Signs tokens; the autoscaler holds one.
pub struct TokenSigner {
    key: Ed25519KeyPair,
}

/// Checks tokens; a pooled wrapper holds one.
#[derive(Clone)]
pub struct TokenVerifier {
    key: [u8; ED25519_PUBLIC_KEY_LEN],
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<serde_json::Value>,
}

// === impl DrainClaims ===

impl DrainClaims {
    /// Claims for a drain of the replica `pod_uid`, until `expires` (unix seconds).
    pub fn new(pod_uid: impl Into<String>, expires: u64) -> Self {
        Self { pod_uid: pod_uid.into(), action: DrainAction::Drain, expires }
    }
}

// === impl TokenSigner ===

impl TokenSigner {
    /// A new random key, for an autoscaler and wrappers of one process tree.
    pub fn generate() -> Result<Self, KeyError> {
        let document = Self::generate_pkcs8()?;
        Self::from_pkcs8(&document)
    }

    /// A new random key as a PKCS#8 document, to be stored (a Kubernetes Secret, say).
    pub fn generate_pkcs8() -> Result<Vec<u8>, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Generate)?;
        Ok(document.as_ref().to_vec())
    }

    /// The key in a PKCS#8 document (DER), with or without its public half.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document)
            .map_err(|rejected| KeyError::Private(rejected.to_string()))?;
        Ok(Self { key })
    }

    /// The public key in base64, as `--claim-key` takes it.
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.key.public_key().as_ref())
    }

    /// A token for a specialize call.
    pub fn sign(&self, claims: &TokenClaims) -> String {
        self.token(claims)
    }

    /// A token for a drain.
    pub fn sign_drain(&self, claims: &DrainClaims) -> String {
        self.token(claims)
    }

    fn token(&self, claims: &impl Serialize) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","typ":"JWT"}"#);
        let payload = serde_json::to_vec(claims).expect("strings and an integer always have a JSON form");
        let mut token = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = self.key.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

// === impl TokenVerifier ===

impl TokenVerifier {
    /// The verifier for a public key as [`TokenSigner::public_key`] gives it.
    pub fn from_base64(key: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(key.trim()).map_err(|error| KeyError::Public(format!("no base64: {error}")))?;
        let length = bytes.len();
        let key = bytes.try_into().map_err(|_| KeyError::Public(format!("{length} bytes")))?;
        Ok(Self { key })
    }

    /// The token's claims, if it was signed with our key and `now` (unix seconds) is before its expiry.
    pub fn verify(&self, token: &str, now: u64) -> Result<TokenClaims, TokenError> {
        let claims: TokenClaims = self.claims(token, "claims must be sub, jti, digest and exp")?;
        unexpired(claims.expires, now)?;
        Ok(claims)
    }

    /// Whether the token was signed with our key for a drain of this replica and `now` (unix seconds) is before its expiry.
    pub fn verify_drain(&self, token: &str, pod_uid: &str, now: u64) -> Result<(), TokenError> {
        let claims: DrainClaims = self.claims(token, "claims must be sub, act (drain) and exp")?;
        unexpired(claims.expires, now)?;
        if claims.pod_uid != pod_uid {
            return Err(TokenError::Mismatch("replica (sub)"));
        }
        Ok(())
    }

    /// The claims of a token that was signed with our key.
    fn claims<T: serde::de::DeserializeOwned>(&self, token: &str, expected: &'static str) -> Result<T, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed("longer than 4096 bytes"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("expected three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed("expected three parts"))?;
        let header: Header = decode(header).ok_or(TokenError::Malformed("header is not base64url JSON"))?;
        if header.alg != "EdDSA" || header.crit.is_some() {
            return Err(TokenError::Algorithm);
        }
        let signature =
            URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed("signature is not base64url"))?;
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| TokenError::Signature)?;
        decode(payload).ok_or(TokenError::Malformed(expected))
    }

    /// Like [`Self::verify`], and the token must be for exactly this replica, claim and digest.
    pub fn verify_for(
        &self,
        token: &str,
        (pod_uid, claim_id, digest): (&str, &str, &str),
        now: u64,
    ) -> Result<(), TokenError> {
        let claims = self.verify(token, now)?;
        if claims.pod_uid != pod_uid {
            return Err(TokenError::Mismatch("replica (sub)"));
        }
        if claims.claim_id != claim_id {
            return Err(TokenError::Mismatch("claim (jti)"));
        }
        if claims.digest != digest {
            return Err(TokenError::Mismatch("model (digest)"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenVerifier").field(&STANDARD.encode(self.key)).finish()
    }
}

fn unexpired(expires: u64, now: u64) -> Result<(), TokenError> {
    if now >= expires { Err(TokenError::Expired { expires, now }) } else { Ok(()) }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
