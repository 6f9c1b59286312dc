//! The report of `wosp` on its published identity: names, numbers and times, nothing secret.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, WorkloadName};

/// Path at which `wosp` answers with an [`IdentityReport`], or 503 before the first.
pub const IDENTITY_REPORT_PATH: &str = "/identity";

/// The last published identity, with its authority and roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityReport {
    pub name: WorkloadName,
    /// When its file was renamed into place. Later reads of the file give this identity.
    pub published_at: Timestamp,
    /// The time of the answer by the pod's own clock, by which ages are computed. Earlier versions
    /// omit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Timestamp>,
    pub identity: CertificateReport,
    /// The pod authority that signed it.
    pub authority: CertificateReport,
    /// The roots that the pod trusts.
    pub roots: Vec<CertificateReport>,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReport {
    /// Lower-case hexadecimal digits.
    pub serial: String,
    /// SHA-256 of the whole certificate, lower-case hexadecimal digits.
    pub fingerprint: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl CertificateReport {
    /// Returns the report of a certificate in DER, or `None` if it is not one.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (rest, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let at = |seconds| {
            jiff::Timestamp::from_second(seconds)
                .ok()
                .map(Timestamp::from)
        };
        Some(Self {
            serial: hex(parsed.raw_serial()),
            fingerprint: hex(ring::digest::digest(&ring::digest::SHA256, der).as_ref()),
            not_before: at(parsed.validity().not_before.timestamp())?,
            not_after: at(parsed.validity().not_after.timestamp())?,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_has_serial_fingerprint_and_times() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x0a, 0xff]));
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2026, 1, 2);
        let certificate = parameters.self_signed(&key).unwrap();
        let report = CertificateReport::of(certificate.der()).unwrap();
        assert_eq!(report.serial, "0aff");
        assert_eq!(report.fingerprint.len(), 64);
        assert_eq!(report.not_before.to_string(), "2026-01-01T00:00:00.000000Z");
        assert_eq!(report.not_after.to_string(), "2026-01-02T00:00:00.000000Z");
    }

    #[test]
    fn invalid_certificate_has_no_report() {
        assert_eq!(CertificateReport::of(b"nonsense"), None);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap();
        let longer = [certificate.der().as_ref(), b"x"].concat();
        assert_eq!(CertificateReport::of(&longer), None);
    }
}
