//! A certificate authority of a site, and the files of members.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use sextant_identity::Paths;

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// The files of a member.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        // Certificates are found by the name of their authority.
        params.distinguished_name.push(DnType::CommonName, format!("{:x?}", &key.public_key_raw()[..8]));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The files of a member in a directory of its own, for an hour.
    pub fn member(&self, dir: &Path, uri: &str, role: Option<&str>) -> Files {
        self.member_until(dir, uri, role, SystemTime::now() + Duration::from_secs(3600))
    }

    /// As [`Authority::member`], until `ends`.
    pub fn member_until(&self, dir: &Path, uri: &str, role: Option<&str>, ends: SystemTime) -> Files {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        role.into_iter()
            .for_each(|role| params.distinguished_name.push(DnType::OrganizationalUnitName, role));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = ends.into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        fs::create_dir_all(dir).unwrap();
        let files = Files { dir: dir.to_owned() };
        files.write("ca.pem", &self.pem);
        files.write("cert.pem", &certificate);
        files.write("key.pem", &key.serialize_pem());
        files
    }
}

impl Files {
    /// Trusts these authorities.
    pub fn trust(&self, authorities: &[&Authority]) {
        self.write("ca.pem", &authorities.iter().map(|it| it.pem.as_str()).collect::<String>());
    }

    /// Where they are.
    pub fn paths(&self) -> Paths {
        let [authorities, certificate, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| self.path(name));
        Paths { authorities, certificate, key }
    }

    /// One of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The flags that name them.
    pub fn flags(&self) -> Vec<String> {
        [("--tls-ca", "ca.pem"), ("--tls-cert", "cert.pem"), ("--tls-key", "key.pem")]
            .into_iter()
            .flat_map(|(flag, name)| [flag.to_owned(), self.dir.join(name).display().to_string()])
            .collect()
    }

    fn write(&self, name: &str, text: &str) {
        // As a renewal does: beside it, and renamed.
        let (path, new) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
    }
}
