//! Client of a pod's pinhole: `/trigger` of a gateway, `/output` of a sink, over HTTPS so that
//! the token is never sent in plaintext.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use blueprint::{failure::Failure, pinhole_name, plan::PeerAddress};
use host::{
    environment::PodRecord,
    http::{Endpoint, Lines, NoTls, Request, Tls},
};
use messages::{Ack, Payload, Role};

use crate::trail::StoredMessage;

mod acks;

pub use acks::{Acks, Answered};

/// Longest silence of a gateway while acknowledgements are due: longer than a reconnect with the longest back-off.
const SILENCE: Duration = Duration::from_secs(60);

/// How many stored messages one request asks for: bounds the answer, at 1 MiB each, well below the client's limit.
const PAGE: usize = 500;

/// Reaches one pod's pinhole with its token.
#[derive(Clone, Debug)]
pub struct Pinhole {
    /// For messages: `gateway in cluster-a`.
    who: String,
    role: Role,
    address: PeerAddress,
    token_file: PathBuf,
    /// The name of its HTTPS and the file with the roots of its certificate; `None` for plaintext.
    https: Option<(String, PathBuf)>,
}

/// Parses a payload.
pub fn payload(text: String) -> Result<Payload, messages::InvalidPayload> {
    Payload::from_text(text)
}

/// What a gateway is asked to send.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// A small payload of the gateway's own, so many times.
    Default { count: u32 },
    /// One payload, so many times.
    Same { payload: Payload, count: u32 },
    /// Each payload once, in this order. They travel one a line, so none may hold a line end; send such a one by `Same`.
    Each(Vec<Payload>),
}

impl Trigger {
    /// How many messages it makes.
    pub fn count(&self) -> usize {
        match self {
            Self::Default { count } | Self::Same { count, .. } => {
                usize::try_from(*count).unwrap_or(usize::MAX)
            }
            Self::Each(payloads) => payloads.len(),
        }
    }

    /// Payloads arrive byte for byte, so a line end is not taken out of one either.
    fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Each(payloads)
                if payloads
                    .iter()
                    .any(|payload| payload.as_str().contains('\n')) =>
            {
                Err(
                    Failure::usage("one of several payloads contains a line break")
                        .hint("write it on one line, or send it separately")
                        .into(),
                )
            }
            _ => Ok(()),
        }
    }

    fn request(&self, endpoint: Endpoint) -> Request {
        match self {
            Self::Default { count } => Request::post(endpoint, format!("/trigger?count={count}")),
            Self::Same { payload, count } => {
                Request::post(endpoint, format!("/trigger?count={count}"))
                    .body("application/json", payload.as_str().to_owned())
            }
            Self::Each(payloads) => {
                let lines: Vec<_> = payloads.iter().map(Payload::as_str).collect();
                Request::post(endpoint, "/trigger").body("application/x-ndjson", lines.join("\n"))
            }
        }
    }
}

impl Pinhole {
    /// # Errors
    ///
    /// A usage failure where the blueprint gives the pod no pinhole; an infrastructure failure where it has no address yet.
    pub fn of(pod: &PodRecord) -> anyhow::Result<Self> {
        let who = format!("{} in {}", pod.name.pod(), pod.name.cluster());
        let token_file = pod.token_file.clone().ok_or_else(|| {
            Failure::usage(format!(
                "{who} has no pinhole, so it cannot be called from outside"
            ))
            .hint(format!(
                "set `pinhole: true` for it in the blueprint `{}`",
                pod.name.blueprint()
            ))
        })?;
        let address = pod.local_address.clone().ok_or_else(|| {
            Failure::infrastructure(format!("{who} has no address yet"))
                .hint("run `cargo xtask status` to see its progress")
        })?;
        Ok(Self {
            who,
            role: pod.role,
            address,
            token_file,
            https: pod
                .roots_file
                .clone()
                .map(|roots| (pinhole_name(&pod.name), roots)),
        })
    }

    /// Makes a gateway send; its acknowledgements come as they arrive, in the order of the messages, one a branch where
    /// the blueprint fans out.
    pub async fn trigger(&self, trigger: &Trigger) -> anyhow::Result<Acks> {
        self.must_be(Role::Gateway, "makes")?;
        trigger.check()?;
        let lines = self.lines(&trigger.request(self.endpoint())).await?;
        Ok(Acks {
            who: self.who.clone(),
            lines,
        })
    }

    /// Makes a gateway send and collects every acknowledgement.
    pub async fn trigger_all(&self, trigger: &Trigger) -> anyhow::Result<Vec<Ack>> {
        let mut acks = self.trigger(trigger).await?;
        let mut all = vec![];
        while let Some(ack) = acks.next().await? {
            all.push(ack);
        }
        Ok(all)
    }

    /// [`Self::trigger_all`], each acknowledgement with how long its message took.
    pub async fn trigger_timed(&self, trigger: &Trigger) -> anyhow::Result<Vec<Answered>> {
        let mut acks = self.trigger(trigger).await?;
        let mut all = vec![];
        while let Some(answered) = acks.next_answered().await? {
            all.push(answered);
        }
        Ok(all)
    }

    /// What a sink has stored after the message of index `after`, from the first on with 0.
    pub async fn output(&self, after: u64) -> anyhow::Result<Vec<StoredMessage>> {
        let mut all: Vec<StoredMessage> = vec![];
        loop {
            let after = all.last().map_or(after, |last| last.index);
            let page = self.page(after, PAGE).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// The index of the last message that a sink has stored, 0 where there is none; without reading all of them.
    pub async fn last_index(&self) -> anyhow::Result<u64> {
        let mut search = LastIndex::default();
        while let Some(after) = search.question() {
            let page = self.page(after, 1).await?;
            search.answer(after, page.first().map(|stored| stored.index));
        }
        Ok(search.known)
    }

    /// How many messages a sink keeps: from the oldest that its retention has left to the last.
    pub async fn stored(&self) -> anyhow::Result<u64> {
        let first = self.page(0, 1).await?;
        let Some(first) = first.first() else {
            return Ok(0);
        };
        Ok(self.last_index().await? + 1 - first.index)
    }

    async fn page(&self, after: u64, limit: usize) -> anyhow::Result<Vec<StoredMessage>> {
        self.must_be(Role::Sink, "stores")?;
        let path = format!("/output?after={after}&limit={limit}");
        let mut lines = self.lines(&Request::get(self.endpoint(), path)).await?;
        let mut page = vec![];
        while let Some(line) = lines.next().await.map_err(|error| self.failed(error))? {
            page.extend(StoredMessage::parse_all(&line).with_context(|| self.who.clone())?);
        }
        if page.iter().any(|stored| stored.index <= after) {
            return Err(Failure::product(format!(
                "{} returned messages with an earlier index for `/output?after={after}`",
                self.who
            ))
            .into());
        }
        Ok(page)
    }

    /// Sends the request with the token, by HTTPS where the pod has it. Where the roots are replaced between our look at them
    /// and the handshake, the server may show a certificate of one that was not there yet: nothing was sent then, and the
    /// same is tried with the new ones.
    async fn lines(&self, request: &Request) -> anyhow::Result<Lines> {
        let token = self.token()?;
        let mut tls = self.tls()?;
        loop {
            let mut request = request.clone().bearer(&*token).within(SILENCE);
            if let Some(tls) = &tls {
                request = request.secured(tls.clone());
            }
            let answer = request.lines().await;
            if let (Some(tried), Err(error)) = (&mut tls, &answer)
                && error.is::<NoTls>()
                && let Some(now) = self.tls()?.filter(|now| !now.trusts_as(tried))
            {
                *tried = now;
                continue;
            }
            return answer.map_err(|error| self.failed(error));
        }
    }

    /// HTTPS, with the roots as they are now, where the pod has it.
    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let https = self.https.as_ref();
        https
            .map(|(name, roots)| Tls::trusting(roots, name))
            .transpose()
    }

    /// Read each time: the token of a replaced pod is another.
    fn token(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(&self.token_file).map_err(|error| {
            Failure::infrastructure(format!(
                "cannot read the token of {}: `{}`: {error}",
                self.who,
                self.token_file.display()
            ))
            .hint("run the command as the user that created the environment")
        })?;
        Ok(text.trim().to_owned())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from(&self.address)
    }

    fn must_be(&self, role: Role, does: &str) -> anyhow::Result<()> {
        if self.role == role {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{} is a {}; only a {role} {does} messages",
            self.who, self.role
        ))
        .into())
    }

    fn failed(&self, error: anyhow::Error) -> anyhow::Error {
        let failure = Failure::infrastructure(format!("invalid response from {}", self.who))
            .hint("run `cargo xtask status` for its state and `cargo xtask logs` for its log");
        error.context(failure)
    }
}

/// Finds the last of rising indexes by asking for the first one after some: in steps that double, then in halves.
#[derive(Debug, Default)]
struct LastIndex {
    /// It is there, or 0.
    known: u64,
    /// Nothing is behind it.
    end: Option<u64>,
    step: u64,
}

impl LastIndex {
    /// What the first index after this is, must be told next; `None` once [`Self::known`] is the last.
    fn question(&self) -> Option<u64> {
        match self.end {
            None => Some(self.known + self.step),
            Some(end) if self.known < end => Some(self.known + (end - self.known) / 2),
            Some(_) => None,
        }
    }

    fn answer(&mut self, after: u64, first: Option<u64>) {
        match first {
            Some(index) => self.known = index,
            None => self.end = Some(after),
        }
        self.step = 2 * self.step.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_index_is_found_without_reading_all() {
        for count in (0..70).chain([1_000, 99_999]) {
            // All of them, and those that are left where the first half was dropped.
            for first in [1, count / 2 + 1] {
                let (mut search, mut questions) = (LastIndex::default(), 0);
                while let Some(after) = search.question() {
                    search.answer(after, (after < count).then_some(first.max(after + 1)));
                    questions += 1;
                }
                assert_eq!(search.known, count);
                assert!(questions < 40, "{questions} questions");
            }
        }
    }

    #[test]
    fn a_payload_with_a_line_end_goes_alone() {
        let payload = payload("[1,\n2]\n".into()).unwrap();
        assert_eq!(
            payload.as_str(),
            "[1,\n2]",
            "what is around the value is no part of it"
        );
        let alone = Trigger::Same {
            payload: payload.clone(),
            count: 2,
        };
        assert!(alone.check().is_ok());
        assert_eq!(alone.count(), 2);
        assert_eq!(
            Failure::exit_code(&Trigger::Each(vec![payload]).check().unwrap_err()),
            2
        );
    }

    #[tokio::test]
    async fn roots_replaced_before_handshake_are_reread() {
        use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        use tokio_rustls::{TlsAcceptor, rustls};

        let folder = tempfile::tempdir().unwrap();
        let name = messages::WorkloadName::new("b", "c", "sink").unwrap();
        let [before, after] =
            ["before", "after"].map(|label| identity::Root::create(label).unwrap());
        let (token_file, roots) = (folder.path().join("token"), folder.path().join("ca.crt"));
        std::fs::write(&token_file, "t").unwrap();
        std::fs::write(&roots, before.certificate_pem()).unwrap();
        let server = after.server(&name).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(
            rustls::crypto::ring::default_provider().into(),
        )
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(server.certificate_pem().as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(server.key_pem().as_bytes()).unwrap(),
        )
        .unwrap();
        let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pinhole = Pinhole {
            who: "sink in c".into(),
            role: Role::Sink,
            address: PeerAddress {
                host: "127.0.0.1".into(),
                port: listener.local_addr().unwrap().port(),
            },
            token_file,
            https: Some((pinhole_name(&name), roots.clone())),
        };
        let serve = async {
            let (first, _) = listener.accept().await.unwrap();
            std::fs::write(&roots, after.certificate_pem()).unwrap();
            assert!(
                acceptor.accept(first).await.is_err(),
                "the client has the roots of before"
            );
            let (second, _) = listener.accept().await.unwrap();
            let mut second = acceptor.accept(second).await.unwrap();
            let _ = second.read(&mut [0; 1024]).await.unwrap();
            second
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            second.shutdown().await.unwrap();
        };
        let (page, ()) = tokio::join!(pinhole.page(0, 1), serve);
        assert_eq!(page.unwrap(), []);

        // The same roots as before: there is nothing to try again.
        std::fs::write(&roots, before.certificate_pem()).unwrap();
        let refuse = async {
            let (only, _) = listener.accept().await.unwrap();
            assert!(acceptor.accept(only).await.is_err());
        };
        let (page, ()) = tokio::join!(pinhole.page(0, 1), refuse);
        assert!(format!("{:#}", page.unwrap_err()).contains("no TLS with"));
    }
}
