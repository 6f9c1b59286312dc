//! Reads tunnel sessions from the access logs of Envoy.

use messages::{CertificateReport, Timestamp};
use percent_encoding::percent_decode_str;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::Deserialize;

/// A session through the tunnel, as the Envoy at one of its ends has logged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSession {
    /// When the connection was taken: from the peer, or from the pod's own app on its way out.
    pub began_at: Timestamp,
    /// The DNS names of the peer's certificate.
    pub peer_names: String,
    /// Its serial number, in hex.
    pub peer_serial: String,
    /// From when on it is valid.
    pub peer_valid_from: Timestamp,
}

/// Which end of a session a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Server,
    Client,
}

#[derive(Deserialize)]
struct Line {
    #[serde(flatten)]
    event: Event,
    /// Each session has a line for its beginning and one for its end.
    moment: String,
    time: Timestamp,
    peer_names: String,
    peer_valid_from: Timestamp,
}

/// What only one of the ends can tell.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Tunnel {
        peer_serial: String,
    },
    Egress {
        /// PEM, percent-encoded.
        peer_certificate: String,
    },
}

impl TunnelSession {
    /// From a line of Envoy's log, with the end that its pod is; `None` where that tells something else.
    pub fn of_line(line: &str) -> Option<(End, Self)> {
        let line: Line = serde_json::from_str(line).ok()?;
        if line.moment != "TcpUpstreamConnected" {
            return None;
        }
        let (end, peer_serial) = match line.event {
            Event::Tunnel { peer_serial } => (End::Server, peer_serial),
            Event::Egress { peer_certificate } => (End::Client, serial(&peer_certificate)?),
        };
        let session = Self {
            began_at: line.time,
            peer_names: line.peer_names,
            peer_serial,
            peer_valid_from: line.peer_valid_from,
        };
        Some((end, session))
    }
}

/// The serial number of a certificate in percent-encoded PEM.
fn serial(certificate: &str) -> Option<String> {
    let pem: Vec<u8> = percent_decode_str(certificate).collect();
    let der = CertificateDer::from_pem_slice(&pem).ok()?;
    Some(CertificateReport::of(&der)?.serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_start_differs_from_other_lines() {
        let line = |moment: &str| {
            format!(
                r#"{{"event":"tunnel","moment":"{moment}","peer_names":"a.b","peer_serial":"0f","peer_valid_from":"2026-01-01T00:00:00Z","time":"2026-01-01T00:00:01.000Z","took_ms":1}}"#
            )
        };
        let (end, session) = TunnelSession::of_line(&line("TcpUpstreamConnected")).unwrap();
        assert_eq!((end, session.peer_serial.as_str()), (End::Server, "0f"));
        assert_eq!(TunnelSession::of_line(&line("TcpConnectionEnd")), None);
        assert_eq!(TunnelSession::of_line(r#"{"event":"refused"}"#), None);
        assert_eq!(TunnelSession::of_line("[info] starting"), None);
    }

    #[test]
    fn invalid_certificate_gives_no_session() {
        let line = |certificate: &str| {
            format!(
                r#"{{"event":"egress","moment":"TcpUpstreamConnected","peer_names":"a.b","peer_certificate":{certificate},"peer_valid_from":"2026-01-01T00:00:00Z","time":"2026-01-01T00:00:01.000Z"}}"#
            )
        };
        for certificate in [
            "null",
            r#""""#,
            r#""%""#,
            r#""-----BEGIN%20CERTIFICATE-----%0AAAAA%0A-----END%20CERTIFICATE-----%0A""#,
        ] {
            assert_eq!(TunnelSession::of_line(&line(certificate)), None);
        }
    }
}
