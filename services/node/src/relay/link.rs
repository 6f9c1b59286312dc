//! One connection out: a bounded window, acknowledgements, resending in order, backoff, renewal.
//! Knows no protocol.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use messages::{Ack, Message};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::{Backoff, CEILING},
    window::{Permit, Window},
};
use crate::{
    metrics::LinkMetrics,
    ready::{Pending, Ready},
    transport::{Dial, Session, SessionError},
    unavailable::Unavailable,
};

/// Longest wait for outstanding acknowledgements at the end of a session's life.
const RENEWAL_DRAIN: Duration = Duration::from_secs(10);
/// Longest wait for the peer to close its half.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The sending end of a connection out. Cheap to clone. The connection ends once the last clone is
/// dropped and everything is acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    queue: mpsc::UnboundedSender<Entry>,
    window: Window,
}

/// A message that was passed on and is not yet acknowledged.
#[derive(Debug)]
pub(crate) struct PendingAck(oneshot::Receiver<(Ack, Instant)>);

impl PendingAck {
    pub(crate) async fn answer(self) -> Result<Ack, Unavailable> {
        self.timed_answer().await.map(|(ack, _)| ack)
    }

    /// Waits for the acknowledgement. Returns it with the time of its arrival.
    pub(crate) async fn timed_answer(self) -> Result<(Ack, Instant), Unavailable> {
        self.0.await.map_err(|_| Unavailable::ending())
    }
}

impl Link {
    /// Takes a message into the window, waiting for room. From then on it is sent until it is
    /// acknowledged, even if the returned value is dropped.
    pub(crate) async fn pass(&self, message: Arc<Message>) -> Result<PendingAck, Unavailable> {
        // The bound of the queue is the window: each entry holds a permit in it.
        let permit = self.window.acquire_for(&message).await;
        let (answer, ticket) = oneshot::channel();
        self.queue
            .send(Entry {
                message,
                answer,
                permit,
                first_sent: None,
            })
            .map_err(|_| Unavailable::ending())?;
        Ok(PendingAck(ticket))
    }
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    answer: oneshot::Sender<(Ack, Instant)>,
    #[expect(dead_code, reason = "held until the message is acknowledged")]
    permit: Permit,
    first_sent: Option<Instant>,
}

/// Settings of a connection out.
pub(crate) struct LinkSettings {
    pub(crate) pod: String,
    pub(crate) dial: Dial,
    pub(crate) window: usize,
    pub(crate) session_lifetime: Duration,
    pub(crate) ready: Ready,
    /// Cancelled once everything that was taken is answered.
    pub(crate) closing: CancellationToken,
    pub(crate) metrics: LinkMetrics,
}

/// Makes a connection out. The second value is its task, which runs until the connection ends.
pub(crate) fn link(settings: LinkSettings) -> (Link, impl Future<Output = ()> + Send + 'static) {
    let (sender, queue) = mpsc::unbounded_channel();
    let link = Link {
        queue: sender,
        window: Window::new(settings.window),
    };
    let pending = settings.ready.pending(missing(&settings.pod, None));
    let task = Task {
        settings,
        queue,
        queue_open: true,
        waiting: VecDeque::new(),
        unsent: 0,
        backoff: Backoff::new(),
        pending: Some(pending),
        connected: false,
        failures: 0,
    };
    (link, task.run())
}

fn missing(pod: &str, last: Option<&SessionError>) -> String {
    let last = last
        .map(|lost| format!(" (last: {lost})"))
        .unwrap_or_default();
    format!("an answer from `{pod}` through the tunnel{last}")
}

struct Task {
    settings: LinkSettings,
    queue: mpsc::UnboundedReceiver<Entry>,
    queue_open: bool,
    /// Messages without an acknowledgement, in order. Those before `unsent` are sent on the current
    /// session.
    waiting: VecDeque<Entry>,
    unsent: usize,
    backoff: Backoff,
    pending: Option<Pending>,
    /// True after the first session.
    connected: bool,
    failures: u32,
}

/// How a session ended.
#[derive(Debug)]
enum End {
    /// Everything is acknowledged, and no more messages will come.
    Finished,
    /// It reached the end of its life.
    Renewal,
    Lost(SessionError),
}

/// Returns the next message to send, or `None` once the pod closes its connections.
async fn next_entry(
    queue: &mut mpsc::UnboundedReceiver<Entry>,
    closing: &CancellationToken,
) -> Option<Entry> {
    tokio::select! {
        biased;
        entry = queue.recv() => entry,
        () = closing.cancelled() => {
            queue.close();
            queue.recv().await
        }
    }
}

impl Task {
    async fn run(mut self) {
        while let Some(session) = self.connect().await {
            let began = Instant::now();
            match self.carry(session, began).await {
                End::Finished => return,
                End::Renewal => {
                    tracing::debug!(downstream = self.settings.pod, "session renewed");
                    self.settings.metrics.renewals.inc();
                }
                End::Lost(lost) => {
                    self.settings.metrics.after_loss.inc();
                    if began.elapsed() >= CEILING {
                        self.backoff.reset();
                    }
                    self.failed(&lost);
                    if !self.pause().await {
                        return;
                    }
                }
            }
        }
    }

    /// Dials until there is a session. Returns `None` if nothing is left to send.
    async fn connect(&mut self) -> Option<Session> {
        loop {
            let dial = (self.settings.dial)();
            match self.while_taking(dial).await? {
                Ok(session) => {
                    if self.failures > 0 || !self.connected {
                        tracing::info!(
                            downstream = self.settings.pod,
                            failures = self.failures,
                            "connected"
                        );
                    }
                    self.failures = 0;
                    self.connected = true;
                    self.pending = None;
                    if let Some(skew) = session.skew {
                        self.settings.metrics.skew(skew);
                    }
                    return Some(session);
                }
                Err(lost) => {
                    self.failed(&lost);
                    if !self.pause().await {
                        return None;
                    }
                }
            }
        }
    }

    fn failed(&mut self, lost: &SessionError) {
        let downstream = self.settings.pod.as_str();
        // Only the first failure in a row is logged as a warning, unless the pod has just started.
        // `/ready` shows the rest.
        if self.failures == 0 && self.connected {
            let waiting = self.waiting.len();
            tracing::warn!(downstream, cause = %lost, waiting, "connection lost; retrying");
        } else {
            let failures = self.failures;
            tracing::debug!(downstream, cause = %lost, failures, "connection failed");
        }
        self.failures = self.failures.saturating_add(1);
        // The new entry is made before the old one is dropped, so the pod never looks ready in
        // between.
        let pending = self.settings.ready.pending(missing(downstream, Some(lost)));
        self.pending = Some(pending);
    }

    /// Waits before the next attempt. Returns false if nothing is left to send.
    async fn pause(&mut self) -> bool {
        let delay = self.backoff.next_delay();
        self.while_taking(sleep(delay)).await.is_some()
    }

    /// Runs `work` and queues new messages meanwhile. Returns `None` as soon as nothing is left to
    /// send.
    async fn while_taking<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            if !self.queue_open && self.waiting.is_empty() {
                return None;
            }
            tokio::select! {
                done = &mut work => return Some(done),
                entry = next_entry(&mut self.queue, &self.settings.closing), if self.queue_open => {
                    self.queued(entry);
                }
            }
        }
    }

    fn queued(&mut self, entry: Option<Entry>) {
        match entry {
            Some(entry) => self.waiting.push_back(entry),
            None => self.queue_open = false,
        }
    }

    async fn carry(&mut self, mut session: Session, began: Instant) -> End {
        self.unsent = 0;
        match self.exchange(&mut session, began).await {
            Some(End::Lost(lost)) => End::Lost(lost),
            Some(end) => {
                self.close(session).await;
                end
            }
            None => End::Lost(last_word(session).await),
        }
    }

    /// Returns `None` if the session takes no more messages and its reason is still to be read.
    async fn exchange(&mut self, session: &mut Session, began: Instant) -> Option<End> {
        let life = self.settings.session_lifetime;
        // Up to a tenth less, so that connections made together are not renewed together.
        let renewal = began + life.saturating_sub(life.mul_f64(fastrand::f64() / 10.0));
        let give_up = renewal + RENEWAL_DRAIN;
        let mut renewing = false;
        loop {
            if renewing && self.unsent == 0 {
                return Some(End::Renewal);
            }
            if !self.queue_open && self.waiting.is_empty() {
                return Some(End::Finished);
            }
            let may_send = !renewing && self.unsent < self.waiting.len();
            tokio::select! {
                // Acknowledgements first: they make room.
                biased;
                answer = session.incoming.next() => match answer {
                    Some(Ok(ack)) => self.answered(ack),
                    Some(Err(lost)) => return Some(End::Lost(lost)),
                    None => return Some(End::Lost(SessionError::new("it closed the connection"))),
                },
                () = sleep_until(renewal), if !renewing => renewing = true,
                // Outstanding messages are sent again on the next session.
                () = sleep_until(give_up), if renewing => return Some(End::Renewal),
                room = session.outgoing.reserve(), if may_send => match room {
                    Ok(room) => self.send_next(room),
                    Err(_) => return None,
                },
                entry = next_entry(&mut self.queue, &self.settings.closing), if self.queue_open => {
                    self.queued(entry);
                }
            }
        }
    }

    fn send_next(&mut self, room: mpsc::Permit<'_, Arc<Message>>) {
        if let Some(entry) = self.waiting.get_mut(self.unsent) {
            if entry.first_sent.is_some() {
                self.settings.metrics.resends.inc();
            }
            entry.first_sent.get_or_insert_with(Instant::now);
            room.send(entry.message.clone());
            self.unsent += 1;
        }
    }

    fn answered(&mut self, ack: Ack) {
        let sent = self.waiting.iter().take(self.unsent);
        // A message that came over two branches is here twice with one id. Its trail distinguishes
        // the two.
        let exact = |entry: &Entry| ack.trail.starts_with(&entry.message.trail);
        let mut same_id = sent
            .enumerate()
            .filter(|(_, entry)| entry.message.id == ack.id);
        let first = same_id.next();
        let found = match first {
            Some((_, entry)) if !exact(entry) => same_id.find(|(_, entry)| exact(entry)).or(first),
            _ => first,
        };
        let Some(index) = found.map(|(index, _)| index) else {
            let downstream = &self.settings.pod;
            tracing::debug!(id = %ack.id, downstream, "acknowledgement of an unknown message");
            return;
        };
        if let Some(entry) = self.waiting.remove(index) {
            self.unsent -= 1;
            self.backoff.reset();
            if let Some(first_sent) = entry.first_sent {
                self.settings.metrics.round_trip(first_sent.elapsed());
            }
            // The upstream connection may be gone; its sender sends the message again.
            let _ = entry.answer.send((ack, Instant::now()));
        }
    }

    /// Closes the sending half, and takes the answers that still arrive.
    async fn close(&mut self, session: Session) {
        let Session {
            outgoing,
            mut incoming,
            ..
        } = session;
        drop(outgoing);
        let rest = async {
            while let Some(Ok(ack)) = incoming.next().await {
                self.answered(ack);
            }
        };
        // A silent peer costs only its own connection: outstanding messages are sent again.
        let _ = timeout(CLOSE_LIMIT, rest).await;
    }
}

/// Returns why a session takes no more messages.
async fn last_word(mut session: Session) -> SessionError {
    let error = async {
        while let Some(answer) = session.incoming.next().await {
            if let Err(lost) = answer {
                return Some(lost);
            }
        }
        None
    };
    timeout(CLOSE_LIMIT, error)
        .await
        .ok()
        .flatten()
        .unwrap_or_else(|| SessionError::new("it takes no more messages"))
}

#[cfg(test)]
mod tests;
