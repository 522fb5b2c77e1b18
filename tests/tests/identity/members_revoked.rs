//! Revoked people and controllers are refused on every controller, at once, and so is what a revoked controller has issued.

use std::{fs, time::Duration};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use serde_json::Value;
use sextant_identity::Paths;
use sextant_proto::v1::{self, admin_service_client::AdminServiceClient};
use sextant_tests::{AgentOptions, CliOutput, SECONDS, tls_url};
use tonic::{Code, Status};

use crate::{bed::Bed, client::Client, own::Own};

const DAY: u32 = 86_400;

/// How the stream of events ends within a second, whatever it has sent before.
fn end(client: &Client, mut events: tonic::Streaming<v1::Event>) -> Status {
    client.runtime.block_on(async {
        let all = async {
            while events.message().await?.is_some() {}
            Ok::<_, Status>(())
        };
        let ended = tokio::time::timeout(Duration::from_secs(1), all).await;
        ended.expect("the stream ends within a second").expect_err("the stream ends with the reason")
    })
}

fn follow(client: &Client) -> tonic::Streaming<v1::Event> {
    let request = v1::EventsRequest { follow: true, last: 1, ..Default::default() };
    let call = async { AdminServiceClient::new(client.channel.clone()).events(request).await };
    client.runtime.block_on(call).unwrap().into_inner()
}

#[test]
fn a_revoked_person_loses_streams_and_calls_at_another_controller_and_is_permitted_again() {
    let bed = Bed::with_two_controllers("revoked person", 0);
    let bob = bed.member("admin/bob", Some("operator"));
    let client = Client::new(&bed.controllers[1], &bob);
    let events = follow(&client);
    // A call without an answer yet: it waits for a revision that never comes.
    let wait = v1::WaitRequest { revision: u64::MAX, timeout_ms: 60_000 };
    let (sent, waiting) = std::sync::mpsc::channel();
    let channel = client.channel.clone();
    client.runtime.spawn(async move {
        let ended = match AdminServiceClient::new(channel).wait(wait).await {
            Ok(mut stream) => loop {
                match stream.get_mut().message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                }
            },
            Err(status) => Err(status),
        };
        sent.send(ended)
    });
    assert_eq!(bed.cli(&bed.admin, &["revoke", "admin", "bob", "--undo"]).code, 3);

    let said = bed.sextant(&["revoke", "admin", "bob"]);
    assert!(said.contains("admin bob revoked"), "{said}");
    let status = end(&client, events);
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("admin bob is revoked (by admin ann at "), "{}", status.message());
    let waited = waiting.recv_timeout(Duration::from_secs(1)).expect("the wait ends within a second");
    assert_eq!(waited.unwrap_err().code(), Code::PermissionDenied);

    // Neither the open connection nor another certificate of the name helps.
    let call = async { AdminServiceClient::new(client.channel.clone()).status(v1::StatusRequest {}).await };
    assert_eq!(client.runtime.block_on(call).unwrap_err().code(), Code::PermissionDenied);
    let again = bed.member("admin/bob", Some("admin"));
    let refused = bed.cli(&again, &["status"]);
    assert!(refused.code == 1 && refused.stderr.contains("sextant revoke admin bob --undo"), "{refused:?}");
    let listed: Value = serde_json::from_str(&bed.sextant(&["-o", "json", "revoke", "list"])).unwrap();
    assert_eq!((&listed[0]["kind"], &listed[0]["name"]), (&"admin".into(), &"bob".into()), "{listed}");
    let events = bed.sextant(&["events"]);
    assert!(events.contains("admin bob"), "{events}");

    bed.sextant(&["revoke", "admin", "bob", "--undo"]);
    bed.cli(&again, &["status"]).succeeded().unwrap();
    assert_eq!(bed.sextant(&["revoke", "list"]), "nobody is revoked\n");
}

#[test]
fn one_certificate_of_a_person_is_revoked_and_the_name_is_not() {
    let bed = Bed::start("revoked certificate", 0);
    let stolen = bed.member("admin/bob", Some("operator"));
    let me: Value = serde_json::from_str(&bed.cli(&stolen, &["-o", "json", "whoami"]).stdout).unwrap();
    let serial = me["serial"].as_str().unwrap().to_uppercase();
    bed.sextant(&["revoke", "admin", "bob", "--serial", &serial]);
    let refused = bed.cli(&stolen, &["whoami"]);
    assert!(refused.stderr.contains("this certificate of admin bob is revoked"), "{refused:?}");
    let next = bed.member("admin/bob", Some("operator"));
    bed.cli(&next, &["status"]).succeeded().unwrap();
    // An admin does not lock herself out.
    let own = bed.cli(&bed.admin, &["revoke", "admin", "ann"]);
    assert!(own.code != 0 && own.stderr.contains("nothing was changed"), "{own:?}");
    bed.sextant(&["status"]);
}

/// Files of a member that the holder of a controller's issuing key has made.
fn forged(own: &Own, of: &str, uri: &str) -> Vec<String> {
    let issuing = own.authority.dir_of(2);
    let read = |name: &str| fs::read_to_string(issuing.join(name)).unwrap();
    let key = KeyPair::from_pem(&read("issuing.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("issuing.pem"), key).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "admin");
    let key = KeyPair::generate().unwrap();
    let chain = params.signed_by(&key, &issuer).unwrap().pem() + &read("issuing.pem");
    let paths = ["ca", "cert", "key"].map(|end| own.lab.dir().join(format!("{of}.{end}")));
    for (path, text) in paths.iter().zip([read("root.pem"), chain, key.serialize_pem()]) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let flags = ["--tls-ca", "--tls-cert", "--tls-key"].into_iter();
    flags.zip(paths).flat_map(|(flag, path)| [flag.to_owned(), path.display().to_string()]).collect()
}

fn cli(own: &Own, files: &[String], args: &[&str]) -> CliOutput {
    let flags: Vec<&str> = files.iter().map(String::as_str).collect();
    own.lab.cli_at(&tls_url(1), &[&flags[..], args].concat()).unwrap()
}

/// Whoever has the issuing key of a controller can make certificates for any name. Once that controller is revoked, none of them counts;
/// the node that it has certified goes on, since the forger does not have its key.
#[test]
fn what_a_revoked_controller_has_issued_counts_no_longer() {
    let mut own = Own::without_controller("revoked controller", 2, DAY);
    own.pki(&["controller", "c2"]);
    let etcd = own.lab.etcd(1, &[]).unwrap();
    own.start_controller(1, Some(etcd.store()));
    own.start_controller(2, Some(etcd.store()));
    own.sextant(&["pool", "add", "main", "2001:db8:8000::/40", "--host-len", "64"]);
    let line = own.token(&["--node", "h1"]);
    assert!(own.join_as(0, "h1", &line, 2).is_done);
    // Its agent is connected to the controller that is to be revoked.
    let options = AgentOptions { over_tls: true, controllers: vec![2], ..AgentOptions::default() };
    own.agents.push(own.lab.agent(&own.hosts[0], options).unwrap());
    own.wait_ready("h1");
    let routes = own.hosts[0].routes_of(66).unwrap();
    let admin = forged(&own, "mallory", "spiffe://default/admin/mallory");
    let node = forged(&own, "h1", "spiffe://default/node/h1");
    let controller = forged(&own, "c1", "spiffe://default/controller/c1");
    cli(&own, &admin, &["status"]).succeeded().unwrap();
    for files in [&node, &controller] {
        cli(&own, files, &["whoami"]).succeeded().unwrap();
    }
    // Ann's certificate is of c1: she may revoke c2, and not c1.
    let refused = own.cli(&["revoke", "controller", "c1"]);
    assert!(refused.stderr.contains("it has issued the caller's own certificate"), "{refused:?}");

    let before = own.agents[0].process.log_len();
    let said = own.sextant(&["revoke", "controller", "c2"]);
    assert!(said.contains("access to the store"), "{said}");
    // The honest one serves nobody any more, and the agent moves to the other.
    own.agents[0].process.wait_for_line_after(before, "is revoked", SECONDS).unwrap();
    own.agents[0].process.wait_for_line_after(before, "connected to controller", 20 * SECONDS).unwrap();
    let asked = own.authority.cli(&own.lab, 2, &["status"]).unwrap();
    assert!(asked.code == 5 && asked.stderr.contains("ask another one"), "{asked:?}");
    for (who, files) in [("admin", &admin), ("node", &node), ("controller", &controller)] {
        let refused = cli(&own, files, &["whoami"]);
        let is_named = refused.stderr.contains("issued by controller c2, which is revoked");
        assert!(refused.code != 0 && is_named, "{who}: {refused:?}");
    }
    own.wait_ready("h1");
    assert_eq!(own.hosts[0].routes_of(66).unwrap(), routes);
    let own_files = Paths {
        authorities: own.authority.dir_of(1).join("root.pem"),
        certificate: own.lab.state_dir(&own.hosts[0]).join("tls/node.pem"),
        key: own.lab.state_dir(&own.hosts[0]).join("tls/node.key"),
    };
    let flags = [
        ("--tls-ca", &own_files.authorities),
        ("--tls-cert", &own_files.certificate),
        ("--tls-key", &own_files.key),
    ];
    let flags: Vec<String> =
        flags.iter().flat_map(|(flag, path)| [(*flag).to_owned(), path.display().to_string()]).collect();
    cli(&own, &flags, &["whoami"]).succeeded().unwrap();
    own.sextant(&["revoke", "controller", "c2", "--undo"]);
    cli(&own, &admin, &["status"]).succeeded().unwrap();
}
