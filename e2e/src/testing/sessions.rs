use messages::Timestamp;
use serde::Deserialize;

/// A session that came through the tunnel, as the Envoy of the pod it came to has logged it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TunnelSession {
    /// When the connection was taken.
    #[serde(rename = "time")]
    pub began_at: Timestamp,
    /// The DNS names of the peer's certificate.
    pub peer_names: String,
    /// Its serial number, in hex.
    pub peer_serial: String,
}

#[derive(Deserialize)]
struct Line {
    event: String,
    /// Each session has a line for its beginning and one for its end.
    #[serde(default)]
    moment: String,
}

impl TunnelSession {
    /// From a line of Envoy's log; `None` where that tells something else.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        let told: Line = serde_json::from_str(line).ok()?;
        let begins = told.event == "tunnel" && told.moment == "TcpUpstreamConnected";
        begins.then(|| serde_json::from_str(line).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_session_is_told_from_its_end_and_from_other_lines() {
        let line = |moment: &str| {
            format!(
                r#"{{"event":"tunnel","moment":"{moment}","peer_names":"a.b","peer_serial":"0f","time":"2026-01-01T00:00:00.000Z","took_ms":1}}"#
            )
        };
        let session = TunnelSession::of_line(&line("TcpUpstreamConnected")).unwrap();
        assert_eq!(session.peer_serial, "0f");
        assert_eq!(TunnelSession::of_line(&line("TcpConnectionEnd")), None);
        assert_eq!(TunnelSession::of_line(r#"{"event":"refused"}"#), None);
        assert_eq!(TunnelSession::of_line("[info] starting"), None);
    }
}
