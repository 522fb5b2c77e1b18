//! `[kubernetes]`

use std::path::PathBuf;

use super::{Invalid, keys::KubernetesKeys, value};
use crate::kubernetes::Access;

/// Where the API server's files are in a pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The audience that is set by default.
const AUDIENCE: &str = "sextant";
/// The account of the agents by default.
const AGENTS: &str = "sextant/sextant-agent";

/// Who reviews service-account tokens; nobody unless the API server is set.
pub(super) fn access(keys: KubernetesKeys, has_authority: bool) -> Result<Option<Access>, Invalid> {
    let KubernetesKeys { api_server, ca_file, token_file, audience, service_account } = keys;
    let Some(url) = api_server else {
        let given = [
            ca_file.map(|it| ("--kubernetes-ca-file", it.display().to_string())),
            token_file.map(|it| ("--kubernetes-token-file", it.display().to_string())),
            audience.map(|it| ("--kubernetes-audience", it)),
            service_account.map(|it| ("--kubernetes-service-account", it)),
        ];
        let first = given.into_iter().flatten().next();
        return first.map_or(Ok(None), |(key, it)| Err(value(key, &it, &"needs --kubernetes-api-server")));
    };
    let key = "--kubernetes-api-server";
    if !has_authority {
        return Err(value(key, &url, &"needs --pki: certificates are made by the cluster's own authority"));
    }
    let fix = "write it as https://HOST:PORT, e.g. https://kubernetes.default.svc";
    let parsed = url.parse::<hyper::Uri>().ok();
    let is_one = |it: &hyper::Uri| {
        it.scheme_str() == Some("https")
            && it.host().is_some()
            && matches!(it.path(), "" | "/")
            && it.query().is_none()
    };
    let api_server = parsed.filter(is_one).ok_or_else(|| value(key, &url, &fix))?;
    let account = service_account.unwrap_or_else(|| AGENTS.to_owned());
    let in_pod = |name: &str| PathBuf::from(ACCOUNT).join(name);
    Ok(Some(Access {
        api_server,
        ca_file: ca_file.unwrap_or_else(|| in_pod("ca.crt")),
        token_file: token_file.unwrap_or_else(|| in_pod("token")),
        audience: audience.unwrap_or_else(|| AUDIENCE.to_owned()),
        account: account.parse().map_err(|error| value("--kubernetes-service-account", &account, &error))?,
    }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{
        super::{CommandLine, Settings},
        *,
    };

    fn settings(args: &[&str]) -> Result<Settings, Invalid> {
        let program = ["sextant-controller", "--pki", "/p"].iter();
        CommandLine::try_parse_from(program.chain(args)).unwrap().settings()
    }

    #[test]
    fn the_api_server_is_asked_with_the_files_of_a_pod_by_default() {
        assert_eq!(settings(&[]).unwrap().kubernetes, None);
        let access =
            settings(&["--kubernetes-api-server", "https://[fd00::1]:6443"]).unwrap().kubernetes.unwrap();
        assert_eq!(access.ca_file, PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"));
        assert_eq!(access.audience, "sextant");
        assert_eq!(access.account.to_string(), "system:serviceaccount:sextant:sextant-agent");
    }

    #[test]
    fn wrong_values_name_flag_value_and_fix() {
        let server = ["--kubernetes-api-server", "https://k:6443"];
        let why = |args: &[&str]| settings(args).unwrap_err().to_string();
        assert!(why(&["--kubernetes-audience", "x"]).contains("x: needs --kubernetes-api-server"));
        for url in ["http://k:6443", "k:6443", "https://k/api", "https://k?a=b", "https://"] {
            assert!(
                why(&["--kubernetes-api-server", url]).contains("write it as https://HOST:PORT"),
                "{url}"
            );
        }
        let account = [&server[..], &["--kubernetes-service-account", "agent"]].concat();
        assert!(why(&account).contains("agent: give it NAMESPACE/NAME"));
        let no_pki =
            CommandLine::try_parse_from(["sextant-controller"].iter().chain(&server)).unwrap().settings();
        assert!(no_pki.unwrap_err().to_string().contains("needs --pki"));
    }
}
