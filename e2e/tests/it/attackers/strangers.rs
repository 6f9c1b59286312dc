//! Who is not the gateway: every identity but its own, and its own by another TLS.

use std::time::Duration;

use e2e::testing::{Ferry, Metric, with_environment};
use identity::{Leaf, LeafRequest, Root, Validity};
use jiff::Timestamp;

use super::{
    attack::{Attack, Errand, Sign, attack, errand, withstand},
    door::{Door, Version, root},
};

pub(crate) const TEST: &str =
    "e2e/tests/it/attackers/strangers.rs::current_gateway_identity_alone_gets_in";

const MUTUAL_TLS: &str = "the sink's Envoy: mutual TLS";
pub(crate) const CHAIN: Metric = ingress("envoy_listener_ssl_fail_verify_error");
const NO_CERTIFICATE: Metric = ingress("envoy_listener_ssl_fail_verify_no_cert");
const TLS_ERROR: Metric = ingress("envoy_listener_ssl_connection_error");
const REUSED: Metric = ingress("envoy_listener_ssl_session_reused");
const HANDSHAKES: Metric = ingress("envoy_listener_ssl_handshake");

const HOUR: Duration = Duration::from_secs(60 * 60);

pub(crate) const ATTACKS: &[Attack] = &[
    attack!(
        "no certificate",
        MUTUAL_TLS,
        [
            Sign::Rises(NO_CERTIFICATE),
            Sign::Envoy("PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        ],
        async |ferry| { Door::of_sink(&ferry)?.refused(None, Version::Tls13).await }
    ),
    stranger(
        "a certificate that signs itself",
        &[Sign::Rises(CHAIN), Sign::Envoy("self_signed_certificate")],
        errand!(async |ferry| {
            let signed = rcgen::generate_simple_self_signed([ferry.gateway()?.name.to_string()])?;
            let leaf = Leaf {
                certificate_chain_pem: signed.cert.pem(),
                key_pem: signed.signing_key.serialize_pem(),
            };
            show(&ferry, &leaf).await
        }),
    ),
    stranger(
        "the gateway's name by another environment's root",
        &[
            Sign::Rises(CHAIN),
            Sign::Envoy("unable_to_get_local_issuer_certificate"),
        ],
        errand!(async |ferry| {
            let name = ferry.gateway()?.name;
            let elsewhere = Root::create("elsewhere")?.authority(&name)?;
            show(&ferry, &elsewhere.leaf(&LeafRequest::of(&name))?).await
        }),
    ),
    stranger(
        "an identity that has expired",
        &[Sign::Rises(CHAIN), Sign::Envoy("certificate_has_expired")],
        errand!(async |ferry| {
            let now = Timestamp::now();
            valid(&ferry, now - 2 * HOUR, now - Duration::from_secs(2)).await
        }),
    ),
    stranger(
        "an identity that is not valid yet",
        &[
            Sign::Rises(CHAIN),
            Sign::Envoy("certificate_is_not_yet_valid"),
        ],
        errand!(async |ferry| {
            let now = Timestamp::now();
            valid(&ferry, now + HOUR, now + 2 * HOUR).await
        }),
    ),
    attack!(
        "the gateway's identity by TLS 1.2",
        "the sink's Envoy: TLS 1.3 only",
        [Sign::Rises(TLS_ERROR), Sign::Envoy("UNSUPPORTED_PROTOCOL")],
        async |ferry| {
            let leaf = gateways(&ferry)?;
            Door::of_sink(&ferry)?
                .refused(Some(&leaf), Version::Tls12)
                .await
        }
    ),
    attack!(
        "the gateway's identity in a resumed session",
        "the sink's Envoy: it gives no ticket, each handshake is a full one",
        [Sign::Rises(HANDSHAKES), Sign::Stays(REUSED)],
        async |ferry| {
            let (kind, tickets) = Door::of_sink(&ferry)?.twice(&gateways(&ferry)?).await?;
            anyhow::ensure!(tickets == 0, "no ticket must be given, {tickets} were");
            anyhow::ensure!(
                kind != tokio_rustls::rustls::HandshakeKind::Resumed,
                "the second handshake must be a full one too"
            );
            Ok(format!("{kind:?}"))
        }
    ),
];

/// A metric of the listener behind the public port.
pub(crate) const fn ingress(name: &'static str) -> Metric {
    Metric::named(name).with(&[("envoy_listener_address", "ingress")])
}

/// One whose certificate does not lead to the root at this moment.
const fn stranger(name: &'static str, seen_in: &'static [Sign], run: Errand) -> Attack {
    Attack {
        name,
        refused_by: MUTUAL_TLS,
        seen_in,
        run,
    }
}

async fn show(ferry: &Ferry, leaf: &Leaf) -> anyhow::Result<String> {
    Door::of_sink(ferry)?
        .refused(Some(leaf), Version::Tls13)
        .await
}

/// Shows an identity of the gateway that is valid at that time only.
async fn valid(
    ferry: &Ferry,
    not_before: Timestamp,
    not_after: Timestamp,
) -> anyhow::Result<String> {
    let name = ferry.gateway()?.name;
    let mut request = LeafRequest::of(&name);
    request.validity = Validity {
        not_before,
        not_after,
    };
    show(ferry, &root(ferry)?.authority(&name)?.leaf(&request)?).await
}

/// What the gateway's own `wosp` would mint.
pub(crate) fn gateways(ferry: &Ferry) -> anyhow::Result<Leaf> {
    let name = ferry.gateway()?.name;
    root(ferry)?.authority(&name)?.leaf(&LeafRequest::of(&name))
}

#[tokio::test]
async fn current_gateway_identity_alone_gets_in() -> anyhow::Result<()> {
    with_environment("fast-international-ferry", |ferry| async move {
        Door::of_sink(&ferry)?.admitted(&gateways(&ferry)?).await?;
        withstand(&ferry, ATTACKS).await
    })
    .await
}
