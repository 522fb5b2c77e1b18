//! The certificate of this node: renewed in time, and reported before it ends.
//!
//! One task, [`CertificateKeeper::run`], which never ends. A renewal replaces the file; the next handshake uses it, and no stream is
//! broken. A certificate that has ended is renewed too, while the node's claim stands.

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use rand::Rng;
use sextant_daemon::Metrics;
use sextant_identity::{Credentials, Holder, TlsDial};
use sextant_join::{Directory, JoinError, renew, return_with, schedule};
use sextant_proto::NodeName;

use crate::{
    controllers::Controllers,
    problems::{Component, Finding, Problems},
    settings::Tls,
};

/// How often the time is looked at: clocks are set.
const PERIOD: Duration = Duration::from_secs(30);
/// The first delay after a failure, and the longest.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(20);
/// A twentieth of the life of a certificate, but not of a longer one than this, passes until it is renewed again.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The certificate of this node.
pub(crate) struct Certificate {
    pub(crate) credentials: Arc<Credentials>,
    /// None: the files are the site's, which renews them.
    pub(crate) own: Option<Own>,
}

/// Keeps the certificate of this node valid.
pub(crate) struct CertificateKeeper {
    credentials: Arc<Credentials>,
    own: Option<Own>,
    problems: Problems,
}

/// The certificate that the agent renews itself.
pub(crate) struct Own {
    pub(crate) directory: Directory,
    pub(crate) controllers: Controllers,
    pub(crate) node: NodeName,
}

impl CertificateKeeper {
    /// Of this certificate, whose end is added to the metrics.
    pub(crate) fn new(
        Certificate { credentials, own }: Certificate,
        problems: Problems,
        metrics: &Metrics,
    ) -> Self {
        let mut registry = metrics.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(End(credentials.clone())));
        Self { credentials, own, problems }
    }

    /// Renews in time, and reports.
    ///
    /// # Errors
    /// None: it never ends.
    pub(crate) async fn run(self) -> Result<(), Infallible> {
        let (mut jitter, mut retry) = (rand::rng().random::<f64>(), FIRST_RETRY);
        let mut failure = None;
        loop {
            let (holder, now) = (self.credentials.holder(), SystemTime::now());
            self.report(&holder, failure.as_deref(), now);
            let Some(own) = &self.own else {
                tokio::time::sleep(PERIOD).await;
                continue;
            };
            let due = schedule::renewal(holder.begins, holder.ends, jitter);
            if now < due {
                tokio::time::sleep(due.duration_since(now).unwrap_or_default().min(PERIOD)).await;
                continue;
            }
            match self.renew(own, holder.ends <= now).await {
                Ok(()) => {
                    tracing::info!(ends = ?self.credentials.holder().ends, "certificate renewed");
                    (jitter, retry, failure) = (rand::rng().random(), FIRST_RETRY, None);
                }
                Err(error) => {
                    if failure.is_none() {
                        tracing::warn!(%error, "certificate not renewed; retrying");
                    }
                    failure = Some(error.to_string());
                }
            }
            // After a success too: where clocks differ, a certificate may be due again at once.
            let pause = match failure {
                Some(_) => {
                    let longer = (retry * 2).min(LONGEST_RETRY);
                    std::mem::replace(&mut retry, longer)
                }
                None => holder.ends.duration_since(holder.begins).unwrap_or_default().min(LONGEST_PAUSE) / 20,
            };
            let pause = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
            tokio::time::sleep(pause).await;
        }
    }

    async fn renew(&self, own: &Own, has_ended: bool) -> Result<(), JoinError> {
        let Own { directory, controllers, node } = own;
        if has_ended {
            let dial = TlsDial::anonymous(self.credentials.clone());
            return return_with(directory, &controllers.in_order(), node, &dial).await;
        }
        let dial = TlsDial::new(self.credentials.clone());
        renew(directory, &controllers.in_order(), node, &dial).await
    }

    fn report(&self, holder: &Holder, failure: Option<&str>, now: SystemTime) {
        let found = finding(holder, self.own.is_some(), failure, now);
        self.problems.report(Component::Certificates, found.into_iter().collect());
    }
}

/// What is wrong with the times of the certificate of an agent with these settings, for `doctor`.
pub(crate) fn finding_now(tls: Option<&Tls>) -> Option<Finding> {
    let tls = tls?;
    let chain = sextant_identity::files::read_certificates(&tls.certificate());
    let holder = chain.map_err(|error| error.to_string()).and_then(|chain| {
        sextant_identity::certificate::holder(&chain[0]).map_err(|error| error.to_string())
    });
    match (holder, tls) {
        (Ok(holder), _) => finding(&holder, matches!(tls, Tls::Joined { .. }), None, SystemTime::now()),
        (Err(saw), Tls::Files(_)) => Some(Finding::new("certificate", saw, "repair the file of --tls-cert")),
        (Err(saw), Tls::Joined { .. }) => {
            let fix = "join with a token: sextant token create, sextant-agent join";
            Some(Finding::new("certificate", saw, fix))
        }
    }
}

/// What is wrong with the times of a certificate. `renews`: the agent renews it itself; `failure`: the reason of the last attempt.
pub(crate) fn finding(
    holder: &Holder,
    renews: bool,
    failure: Option<&str>,
    now: SystemTime,
) -> Option<Finding> {
    let fix = if renews {
        "the agent renews it by itself as soon as a controller of the cluster answers; a node that was forgotten joins again: \
         sextant token create, sextant-agent join"
    } else {
        "replace the files of --tls-cert and --tls-key; they are read again at once"
    };
    let why = failure.map(|why| format!("; the last renewal failed: {why}")).unwrap_or_default();
    let left = |later: SystemTime, earlier: SystemTime| {
        let secs = later.duration_since(earlier).unwrap_or_default().as_secs();
        match secs {
            0..120 => format!("{secs} seconds"),
            120..7200 => format!("{} minutes", secs / 60),
            7200..172_800 => format!("{} hours", secs / 3600),
            _ => format!("{} days", secs / 86_400),
        }
    };
    if now < holder.begins {
        let saw = format!("the certificate of this node is valid only from {} on", left(holder.begins, now));
        return Some(Finding::new("certificate-not-valid-yet", saw, "set the clock of this host"));
    }
    if now >= holder.ends {
        let saw = format!("the certificate of this node ended {} ago{why}", left(now, holder.ends));
        return Some(Finding::new("certificate-ended", saw, fix));
    }
    if now >= schedule::notice(holder.begins, holder.ends) {
        let saw = format!("the certificate of this node ends in {}{why}", left(holder.ends, now));
        return Some(Finding::new("certificate-ends-soon", saw, fix));
    }
    None
}

/// The end of the certificate, as a metric.
#[derive(Debug)]
struct End(Arc<Credentials>);

impl Collector for End {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let ends = self.0.holder().ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let gauge = ConstGauge::new(ends);
        let help = "End of this node's certificate, in Unix time";
        let encoder =
            encoder.encode_descriptor("certificate_end_timestamp_seconds", help, None, MetricType::Gauge)?;
        gauge.encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(begins: u64, ends: u64) -> Holder {
        let at = |hours: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * hours);
        Holder {
            identity: "spiffe://default/node/h1".parse().unwrap(),
            role: None,
            serial: "1".to_owned(),
            begins: at(begins),
            ends: at(ends),
            key_hash: [0; 32],
            issuers: Vec::new(),
        }
    }

    #[test]
    fn a_certificate_is_reported_before_it_ends_and_after() {
        let at = |hours: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * hours);
        let of = |now| finding(&holder(100, 124), true, Some("no answer"), at(now));
        assert_eq!(of(117), None);
        let soon = of(119).unwrap();
        assert_eq!(soon.what, "certificate-ends-soon");
        assert!(soon.saw.ends_with("ends in 5 hours; the last renewal failed: no answer"), "{}", soon.saw);
        assert_eq!(of(124).unwrap().what, "certificate-ended");
        assert!(of(224).unwrap().saw.contains("ended 4 days ago"));
        assert_eq!(of(99).unwrap().what, "certificate-not-valid-yet");
        let of_site = finding(&holder(0, 8760), false, None, at(8760 - 100)).unwrap();
        assert!(of_site.saw.contains("ends in 4 days") && of_site.fix.contains("--tls-cert"), "{of_site:?}");
    }
}
