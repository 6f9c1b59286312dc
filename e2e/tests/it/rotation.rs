//! Identities and sessions that are replaced every few seconds lose and repeat nothing.
//!
//! Runs on every runtime; an environment that is attached to needs the settings of [`e2e::testing::QUICK_IDENTITIES`].

use std::time::Duration;

use anyhow::Context as _;
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use e2e::testing::{Ferry, Setup, TunnelSession, assert_all_delivered, payload, soak};
use harness::{pinhole::Trigger, trail::StoredMessage};
use identity::Root;
use messages::{CertificateReport, Hop, Message, Timestamp, signature::TrailVerifier};
use rstest::rstest;

/// Sessions that must begin under traffic at least: one every 5 s, so that the last begins [`ROTATED`]
/// after the first.
const SESSIONS: usize = 4;
/// Messages that must pass at least in a soak.
const SOAK: u64 = 50_000;
/// Messages that are sent at once; the next ones follow when all of them are acknowledged.
const BATCH: u64 = 100;
/// Between two looks at what has arrived.
const LOOK: Duration = Duration::from_millis(250);
/// What a busy machine needs to take a new identity, where a quiet one needs a tenth of a second. An identity that is older
/// than the rotations in between would still be valid for as long.
const TAKEN: Duration = Duration::from_secs(12);
/// Sessions that begin further apart than this have a rotation between them: 2 s and a tenth, and [`TAKEN`].
const ROTATED: Duration = Duration::from_millis(14_200);

/// The two ends of the tunnel, by the names of their pods.
#[derive(Clone, Debug)]
struct Ends {
    ferry: Ferry,
    gateway: String,
    sink: String,
}

impl Ends {
    fn of(ferry: &Ferry) -> anyhow::Result<Self> {
        Ok(Self {
            gateway: ferry.gateway()?.name.pod().into(),
            sink: ferry.sink()?.name.pod().into(),
            ferry: ferry.clone(),
        })
    }

    /// The sessions between them, as each end has seen the other.
    async fn sessions(&self) -> anyhow::Result<Seen> {
        Ok(Seen {
            of_gateway: self.ferry.pod(&self.sink).sessions_to().await?,
            of_sink: self.ferry.pod(&self.gateway).sessions_from().await?,
        })
    }
}

/// Sessions that show the identity of the gateway, and those that show that of the sink.
struct Seen {
    of_gateway: Vec<TunnelSession>,
    of_sink: Vec<TunnelSession>,
}

impl Seen {
    /// Those after the ones that were there before.
    fn since(mut self, before: &Self) -> Self {
        Self {
            of_gateway: self.of_gateway.split_off(before.of_gateway.len()),
            of_sink: self.of_sink.split_off(before.of_sink.len()),
        }
    }

    /// How many both ends know of.
    fn count(&self) -> usize {
        self.of_gateway.len().min(self.of_sink.len())
    }
}

/// Sends numbered messages, one batch after the other, until there were enough of them and of sessions;
/// how many they are.
async fn send(ends: Ends, enough: u64, enough_sessions: usize) -> anyhow::Result<u64> {
    let mut sent = 0;
    loop {
        let numbers = sent + 1..=sent + BATCH;
        let payloads = numbers.map(|number| payload(&format!(r#"{{"number":{number}}}"#)));
        let acks = ends
            .ferry
            .messages()
            .trigger(&Trigger::Each(payloads.collect()))
            .await?;
        assert_all_delivered(&acks, usize::try_from(BATCH)?);
        sent += BATCH;
        if sent >= enough && ends.sessions().await?.count() >= enough_sessions {
            return Ok(sent);
        }
    }
}

/// An identity that a pod had before a moment of the *other* pod, which is the one that logs the sessions
/// in which it is shown. So only times of one clock are compared.
#[derive(Clone, Debug)]
struct Used {
    before: Timestamp,
    valid_from: Timestamp,
}

/// From when on the identity is valid that a hop was signed with.
fn valid_from(hop: &Hop) -> anyhow::Result<Timestamp> {
    let header = hop.signature.split('.').next().unwrap_or_default();
    let header: serde_json::Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header)?)?;
    let leaf = header["x5c"][0]
        .as_str()
        .context("a signature without a certificate")?;
    let leaf = CertificateReport::of(&BASE64_STANDARD.decode(leaf)?);
    Ok(leaf.context("`x5c` holds no certificate")?.not_before)
}

/// Checks what a sink stores as it comes: the messages 1, 2, 3 … each once.
struct Arrivals {
    verifier: TrailVerifier,
    /// Index in the sink of the last one, and its `seq`.
    index: u64,
    seq: Option<u64>,
    count: u64,
    /// The identities that the gateway had, before moments of the sink.
    of_gateway: Vec<Used>,
    /// Those that the sink had, before moments of the gateway.
    of_sink: Vec<Used>,
    /// The batch of the last message that was looked at, and the sink's identity in it.
    last: Option<(u64, Timestamp)>,
}

impl Arrivals {
    async fn look(&mut self, ferry: &Ferry) -> anyhow::Result<()> {
        let page = ferry.messages().output(self.index).await?;
        for stored in &page {
            self.take(stored);
            self.note_batch(&stored.message);
        }
        // Each trail names the identities of its moment: one of each look is checked against the root.
        if let Some(StoredMessage {
            message, stored_at, ..
        }) = page.last()
        {
            let names = self.verifier.verify(message.id, &message.trail)?;
            assert_eq!(
                names.len(),
                2,
                "gateway and sink must have signed: {names:?}"
            );
            // The gateway had signed before the sink stored.
            self.of_gateway.push(Used {
                before: *stored_at,
                valid_from: valid_from(&message.trail[0])?,
            });
            self.last = Some((batch(self.count), valid_from(&message.trail[1])?));
        }
        Ok(())
    }

    /// The gateway signs a message of a later batch after the sink has signed all of this one.
    fn note_batch(&mut self, message: &Message) {
        if let Some((_, valid_from)) = self.last.take_if(|(last, _)| *last < batch(self.count)) {
            self.of_sink.push(Used {
                before: message.trail[0].at,
                valid_from,
            });
        }
    }

    fn take(&mut self, stored: &StoredMessage) {
        let message = &stored.message;
        self.count += 1;
        assert_eq!(
            message.payload.as_str(),
            format!(r#"{{"number":{}}}"#, self.count),
            "messages must be stored in order, each once: {stored:#?}"
        );
        if let Some(seq) = self.seq {
            assert_eq!(
                message.seq,
                seq + 1,
                "no number must be left out: {stored:#?}"
            );
        }
        (self.index, self.seq) = (stored.index, Some(message.seq));
    }
}

/// The batch that the message of this number was sent in.
fn batch(number: u64) -> u64 {
    number.div_ceil(BATCH)
}

/// Each session made after a rotation must have come with a new identity, one that is not older than what the pod itself
/// had by then.
fn assert_new_identities(sessions: &[TunnelSession], pod: &str, used: &[Used]) {
    assert!(
        sessions.len() >= SESSIONS,
        "sessions must be replaced: {sessions:#?}"
    );
    let mut compared = 0;
    for session in sessions {
        assert!(
            session.peer_names.starts_with(&format!("{pod}.")),
            "the other end must be {pod}: {session:#?}"
        );
        let before = |used: &&Used| since(used.before, session.began_at) >= TAKEN;
        if let Some(newest) = used.iter().filter(before).map(|used| used.valid_from).max() {
            compared += 1;
            assert!(
                session.peer_valid_from >= newest,
                "{pod} had an identity that was valid from {newest} on long before: {session:#?}"
            );
        }
    }
    assert!(compared > 0, "{pod} must have signed before: {used:#?}");
    assert!(
        sessions.is_sorted_by_key(|session| session.peer_valid_from),
        "identities must come in the order in which they were issued: {sessions:#?}"
    );
    for (index, earlier) in sessions.iter().enumerate() {
        for later in &sessions[index + 1..] {
            assert!(
                since(earlier.began_at, later.began_at) < ROTATED
                    || later.peer_serial != earlier.peer_serial,
                "a session after a rotation must use the new identity: {earlier:#?} {later:#?}"
            );
        }
    }
}

/// From one moment to a later one; zero where that is earlier.
fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    let apart = later.as_jiff().duration_since(earlier.as_jiff());
    Duration::try_from(apart).unwrap_or_default()
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn rotation_under_load_loses_nothing(#[case] blueprint: &str) -> anyhow::Result<()> {
    Setup::of(blueprint)
        .quick_identities()
        .run(|ferry| async move {
            let ends = Ends::of(&ferry)?;
            let root = Root::load(&ferry.environment()?.layout().identity())?;
            let mut arrivals = Arrivals {
                verifier: TrailVerifier::new(&[root.certificate_der().clone()])?,
                index: ferry.messages().last_index().await?,
                seq: None,
                count: 0,
                of_gateway: vec![],
                of_sink: vec![],
                last: None,
            };
            let before = ends.sessions().await?;
            let known = before.of_gateway.len().max(before.of_sink.len());

            let mut sending = tokio::spawn(send(ends.clone(), soak(SOAK, 0), known + SESSIONS));
            let mut look = tokio::time::interval(LOOK);
            let sent = loop {
                tokio::select! {
                    sent = &mut sending => break sent.context("the sender panicked")??,
                    _ = look.tick() => arrivals.look(&ferry).await?,
                }
            };
            arrivals.look(&ferry).await?;
            assert_eq!(arrivals.count, sent, "every message must be stored");

            let sessions = ends.sessions().await?.since(&before);
            assert_new_identities(&sessions.of_gateway, &ends.gateway, &arrivals.of_gateway);
            assert_new_identities(&sessions.of_sink, &ends.sink, &arrivals.of_sink);
            Ok(())
        })
        .await
}
