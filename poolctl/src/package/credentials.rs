//! Credentials for a registry, where `docker login` keeps them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

/// What Docker calls its own registry, and what it keeps the credentials for it under.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The part of Docker's `config.json` that holds credentials.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: Option<String>,
}

/// Credentials for `registry`; anonymous where Docker has none.
///
/// # Errors
/// Docker's configuration cannot be read, or it leaves the credentials to a helper program.
pub(super) fn of(registry: &str) -> anyhow::Result<RegistryAuth> {
    let Some(path) = config_path() else { return Ok(RegistryAuth::Anonymous) };
    match fs::read(&path) {
        Ok(content) => find(registry, &content).with_context(|| format!("{}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(RegistryAuth::Anonymous),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn config_path() -> Option<PathBuf> {
    let folder = match env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&env::var_os("HOME")?).join(".docker"),
    };
    Some(folder.join("config.json"))
}

fn find(registry: &str, config: &[u8]) -> anyhow::Result<RegistryAuth> {
    let config: Config = serde_json::from_slice(config).context("it is not what Docker writes")?;
    let is_meant =
        |key: &str| key == registry || host_of(key) == registry || (registry == DOCKER_HUB && key == DOCKER_HUB_KEY);
    let kept = config.auths.iter().find(|(key, _)| is_meant(key));
    if let Some(encoded) = kept.and_then(|(_, auth)| auth.auth.as_deref()).filter(|encoded| !encoded.is_empty()) {
        let decoded = STANDARD.decode(encoded).ok().and_then(|decoded| String::from_utf8(decoded).ok());
        let pair = decoded.as_deref().and_then(|decoded| decoded.split_once(':'));
        let (user, password) =
            pair.with_context(|| format!("the credentials for {registry} are not USER:PASSWORD in base64"))?;
        return Ok(RegistryAuth::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned()));
    }
    let helper = config.cred_helpers.iter().find(|(key, _)| is_meant(key)).map(|(_, helper)| helper);
    match helper.or(config.creds_store.as_ref().filter(|_| kept.is_some())) {
        Some(helper) => bail!(
            "the credentials for {registry} are kept by docker-credential-{helper}, which is not asked: push with docker \
             or skopeo, or name a folder with DOCKER_CONFIG whose config.json holds them under auths"
        ),
        None => Ok(RegistryAuth::Anonymous),
    }
}

/// The registry in a key that is a URL.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(registry: &str, config: &str) -> Result<RegistryAuth, String> {
        find(registry, config.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn credentials_are_found_by_host() {
        let basic = Ok(RegistryAuth::Basic("me".to_owned(), "a:b".to_owned()));
        for key in ["r.example:5000", "https://r.example:5000", "http://r.example:5000/v2/"] {
            let config = format!(r#"{{"auths": {{"{key}": {{"auth": "bWU6YTpi"}}}}, "credsStore": "pass"}}"#);
            assert_eq!(found("r.example:5000", &config), basic, "{key}");
            assert_eq!(found("r.example", &config), Ok(RegistryAuth::Anonymous), "{key}");
        }
        let hub = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "bWU6YTpi"}}}"#;
        assert_eq!(found("docker.io", hub), basic);
        assert_eq!(found("docker.io", "{}"), Ok(RegistryAuth::Anonymous));
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let helper = |config| found("r.example", config).expect_err("refused");
        assert!(helper(r#"{"credHelpers": {"r.example": "ecr-login"}}"#).contains("docker-credential-ecr-login"));
        assert!(helper(r#"{"auths": {"r.example": {}}, "credsStore": "pass"}"#).contains("docker-credential-pass"));
        assert!(helper(r#"{"auths": {"r.example": {"auth": "!"}}}"#).contains("not USER:PASSWORD in base64"));
        assert!(helper("no JSON").contains("not what Docker writes"));
    }
}
