//! Identities that live for seconds, and sessions that are replaced as often, lose and repeat nothing.
//!
//! Runs on every runtime; an environment that is attached to needs the settings of [`e2e::testing::QUICK_IDENTITIES`].

use std::time::Duration;

use anyhow::Context as _;
use e2e::{
    identity::Root,
    pinhole::Trigger,
    testing::{Ferry, Setup, TunnelSession, assert_all_delivered, payload},
    trail::StoredMessage,
    wire::signature::TrailVerifier,
};
use rstest::rstest;

/// Messages that must pass at least.
const MANY: u64 = 50_000;
/// Sessions that must begin under them at least.
const SESSIONS: usize = 4;
/// How many are sent at once: many until there are enough, then few, until there were enough sessions, too.
const BATCH: u64 = 2_500;
const SMALL_BATCH: u64 = 100;
/// Between two looks at what has arrived.
const LOOK: Duration = Duration::from_millis(250);
/// Sessions that begin further apart than this have a rotation between them: 2 s and a tenth, and what a busy machine needs
/// to take it.
const ROTATED: Duration = Duration::from_secs(4);

/// Sends numbered messages until there were enough of them and of sessions; how many they are.
async fn send(ferry: Ferry, sink: String, known: usize) -> anyhow::Result<u64> {
    let mut sent = 0;
    loop {
        let enough = sent >= MANY;
        if enough && ferry.sessions_to(&sink).await?.len() >= known + SESSIONS {
            return Ok(sent);
        }
        let batch = if enough { SMALL_BATCH } else { BATCH };
        let numbers = sent + 1..=sent + batch;
        let payloads = numbers.map(|number| payload(&format!(r#"{{"number":{number}}}"#)));
        let acks = ferry.trigger(&Trigger::Each(payloads.collect())).await?;
        assert_all_delivered(&acks, usize::try_from(batch)?);
        sent += batch;
    }
}

/// Checks what a sink stores as it comes: the messages 1, 2, 3 … each once.
struct Arrivals {
    verifier: TrailVerifier,
    /// Index in the sink of the last one, and its `seq`.
    index: u64,
    seq: Option<u64>,
    count: u64,
}

impl Arrivals {
    async fn look(&mut self, ferry: &Ferry) -> anyhow::Result<()> {
        let page = ferry.output(self.index).await?;
        for stored in &page {
            self.take(stored);
        }
        // Each trail names the identities of its moment: one of each look is checked against the root.
        if let Some(StoredMessage { message, .. }) = page.last() {
            let names = self.verifier.verify(message.id, &message.trail)?;
            assert_eq!(
                names.len(),
                2,
                "gateway and sink must have signed: {names:?}"
            );
        }
        Ok(())
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

/// Each session made after a rotation must have come with a new identity.
fn assert_new_identities(sessions: &[TunnelSession], gateway: &str) {
    for session in sessions {
        assert!(
            session.peer_names.starts_with(&format!("{gateway}.")),
            "only {gateway} must get in: {session:#?}"
        );
    }
    for (index, earlier) in sessions.iter().enumerate() {
        for later in &sessions[index + 1..] {
            let apart = later
                .began_at
                .as_jiff()
                .duration_since(earlier.began_at.as_jiff());
            assert!(
                apart.unsigned_abs() < ROTATED || later.peer_serial != earlier.peer_serial,
                "a session after a rotation must use the new identity: {earlier:#?} {later:#?}"
            );
        }
    }
}

#[rstest]
#[case::websocket("fast-international-ferry")]
#[case::grpc("international-ferry")]
#[tokio::test]
async fn fifty_thousand_messages_pass_while_identities_and_sessions_are_replaced(
    #[case] blueprint: &str,
) -> anyhow::Result<()> {
    Setup::of(blueprint)
        .quick_identities()
        .run(|ferry| async move {
            let sink = ferry.sink()?.name.pod().to_owned();
            let root = Root::load(&ferry.environment()?.layout().identity())?;
            let mut arrivals = Arrivals {
                verifier: TrailVerifier::new(&[root.certificate_der().clone()])?,
                index: ferry.last_index().await?,
                seq: None,
                count: 0,
            };
            let known = ferry.sessions_to(&sink).await?.len();

            let mut sending = tokio::spawn(send(ferry.clone(), sink.clone(), known));
            let mut look = tokio::time::interval(LOOK);
            let sent = loop {
                tokio::select! {
                    sent = &mut sending => break sent.context("the sender panicked")??,
                    _ = look.tick() => arrivals.look(&ferry).await?,
                }
            };
            arrivals.look(&ferry).await?;
            assert_eq!(arrivals.count, sent, "every message must be stored");

            let sessions = ferry.sessions_to(&sink).await?.split_off(known);
            assert!(
                sessions.len() >= SESSIONS,
                "sessions must be replaced: {sessions:#?}"
            );
            assert_new_identities(&sessions, ferry.gateway()?.name.pod());
            Ok(())
        })
        .await
}
