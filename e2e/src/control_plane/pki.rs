//! Keys and certificates of a cluster, made in process.
//!
//! Two authorities: one for servers and clients, one for the front proxy alone, or every client of the first could act as a proxy
//! that vouches for any user. They and the key of service accounts are kept in the state folder and used again, because
//! tokens and clients of an earlier start rely on them; the other certificates are made anew, as names may have changed.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::ControlPlaneError;

/// Who a client of the apiserver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// All rights.
    Admin,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// kube-proxy.
    KubeProxy,
    /// The kubelet of a node.
    Kubelet {
        /// Name of the node.
        node: String,
    },
}

/// A certificate that a client shows, with its key.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PKCS#8 PEM.
    pub key: String,
}

/// The keys and certificates of a cluster, in a folder.
pub struct Pki {
    folder: PathBuf,
    authority: Issuer<'static, KeyPair>,
}

// === impl Identity ===

impl Identity {
    /// The user name, as Kubernetes' own bindings of rights have it.
    pub fn user(&self) -> String {
        match self {
            Self::Admin => "kubernetes-admin".to_owned(),
            Self::ControllerManager => "system:kube-controller-manager".to_owned(),
            Self::Scheduler => "system:kube-scheduler".to_owned(),
            Self::KubeProxy => "system:kube-proxy".to_owned(),
            Self::Kubelet { node } => format!("system:node:{node}"),
        }
    }

    /// The group it is in, where its rights come from one.
    pub const fn group(&self) -> Option<&'static str> {
        match self {
            Self::Admin => Some("system:masters"),
            Self::Kubelet { .. } => Some("system:nodes"),
            Self::ControllerManager | Self::Scheduler | Self::KubeProxy => None,
        }
    }

    /// The name of its files, without ending.
    pub(super) fn file_stem(&self) -> String {
        match self {
            Self::Admin => "admin".to_owned(),
            Self::ControllerManager => "controller-manager".to_owned(),
            Self::Scheduler => "scheduler".to_owned(),
            Self::KubeProxy => "kube-proxy".to_owned(),
            Self::Kubelet { node } => format!("kubelet-{node}"),
        }
    }
}

// === impl Pki ===

impl Pki {
    /// Opens the folder, makes what is missing in it, and a serving certificate for `names` (host names and IP addresses).
    pub(super) fn open(folder: &Path, names: &[String]) -> Result<Self, ControlPlaneError> {
        std::fs::create_dir_all(folder).map_err(|source| state("make folder", folder, source))?;
        let authority = open_authority(folder, "ca")?;
        let front_proxy_authority = open_authority(folder, "front-proxy-ca")?;
        let service_accounts = folder.join("service-accounts.key");
        if !service_accounts.exists() {
            let key = KeyPair::generate().map_err(|source| certificate("service accounts", source))?;
            // The apiserver finds no public key in a private one of this form (PKCS #8).
            write(&folder.join("service-accounts.pub"), &key.public_key_pem())?;
            write(&service_accounts, &key.serialize_pem())?;
        }
        let this = Self { folder: folder.to_owned(), authority };
        // etcd shows the same one to its peers, as a client.
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let mut serving = CertificateParams::new(names).map_err(|source| certificate("the apiserver", source))?;
        serving.distinguished_name = name("kube-apiserver", None);
        this.keep("serving", &sign(&this.authority, &usable_for(serving, &both))?)?;
        this.keep("kubelet-client", &this.issue("kube-apiserver-kubelet-client", Some("system:masters"))?)?;
        this.keep("etcd-client", &this.issue("kube-apiserver-etcd-client", None)?)?;
        this.keep("front-proxy-client", &client(&front_proxy_authority, FRONT_PROXY, None)?)?;
        Ok(this)
    }

    /// A certificate that the apiserver takes for the user `name` in `group`.
    ///
    /// # Errors
    /// When the name cannot be part of a certificate.
    pub fn issue(&self, name: &str, group: Option<&str>) -> Result<ClientCertificate, ControlPlaneError> {
        client(&self.authority, name, group)
    }

    /// File of the authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// A file of the folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn keep(&self, stem: &str, made: &ClientCertificate) -> Result<(), ControlPlaneError> {
        write(&self.file(&format!("{stem}.crt")), &made.certificate)?;
        write(&self.file(&format!("{stem}.key")), &made.key)
    }
}

/// The only name that the apiserver takes from its front proxies.
pub(super) const FRONT_PROXY: &str = "front-proxy-client";

fn open_authority(folder: &Path, stem: &str) -> Result<Issuer<'static, KeyPair>, ControlPlaneError> {
    let (certificate_file, key_file) = (folder.join(format!("{stem}.crt")), folder.join(format!("{stem}.key")));
    let mut params = CertificateParams::default();
    params.distinguished_name = name(stem, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let failed = |source| certificate(stem, source);
    // The certificate is written last: with it, the key is whole.
    let key = if certificate_file.exists() {
        let pem = std::fs::read_to_string(&key_file).map_err(|source| state("read", &key_file, source))?;
        KeyPair::from_pem(&pem).map_err(failed)?
    } else {
        let key = KeyPair::generate().map_err(failed)?;
        write(&key_file, &key.serialize_pem())?;
        write(&certificate_file, &params.self_signed(&key).map_err(failed)?.pem())?;
        key
    };
    Ok(Issuer::new(params, key))
}

fn client(
    authority: &Issuer<'_, KeyPair>,
    user: &str,
    group: Option<&str>,
) -> Result<ClientCertificate, ControlPlaneError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(user, group);
    sign(authority, &usable_for(params, &[ExtendedKeyUsagePurpose::ClientAuth]))
}

fn usable_for(mut params: CertificateParams, purposes: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = purposes.to_vec();
    params.use_authority_key_identifier_extension = true;
    params
}

fn sign(authority: &Issuer<'_, KeyPair>, params: &CertificateParams) -> Result<ClientCertificate, ControlPlaneError> {
    let of = format!("{:?}", params.distinguished_name.get(&DnType::CommonName));
    let failed = |source| ControlPlaneError::Certificate { of: of.clone(), source };
    let key = KeyPair::generate().map_err(failed)?;
    let made = params.signed_by(&key, authority).map_err(failed)?;
    Ok(ClientCertificate { certificate: made.pem(), key: key.serialize_pem() })
}

/// Kubernetes reads the user from the common name and its group from the organization.
fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

/// Writes a file that only its owner may read, whole or not at all.
pub(super) fn write(path: &Path, content: &str) -> Result<(), ControlPlaneError> {
    use std::io::Write as _;
    let folder = path.parent().expect("files are made in a folder");
    let whole = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    whole().map_err(|source| state("write", path, source))
}

fn state(what: &'static str, path: &Path, source: std::io::Error) -> ControlPlaneError {
    ControlPlaneError::State { what, path: path.to_owned(), source }
}

fn certificate(of: &str, source: rcgen::Error) -> ControlPlaneError {
    ControlPlaneError::Certificate { of: of.to_owned(), source }
}
