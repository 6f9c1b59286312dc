//! A connection out against a far end that the tests play, in paused time.

use std::sync::Mutex;

use futures_util::FutureExt as _;
use messages::{Hop, Outcome, Payload, Role, Timestamp};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::*;
use crate::{metrics::Metrics, relay::backoff::FLOOR};

/// The other side of one session.
struct Far {
    messages: mpsc::Receiver<Arc<Message>>,
    answers: mpsc::Sender<Result<Ack, SessionError>>,
}

impl Far {
    async fn take(&mut self) -> Arc<Message> {
        self.messages.recv().await.expect("a message must come")
    }

    async fn take_all(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        for _ in 0..count {
            seqs.push(self.take().await.seq);
        }
        seqs
    }

    async fn acknowledge(&self, message: &Message) {
        let ack = Ack {
            id: message.id,
            outcome: Outcome::Delivered,
            trail: message.trail.clone(),
        };
        self.answers.send(Ok(ack)).await.unwrap();
    }

    async fn lose(self) {
        self.answers
            .send(Err(SessionError::new("cut")))
            .await
            .unwrap();
    }
}

fn session() -> (Session, Far) {
    let (outgoing, messages) = mpsc::channel(1);
    let (answers, incoming) = mpsc::channel(16);
    let incoming = ReceiverStream::new(incoming).boxed();
    (
        Session {
            outgoing,
            incoming,
            skew: Some(0.25),
        },
        Far { messages, answers },
    )
}

struct Bench {
    link: Option<Link>,
    running: JoinHandle<()>,
    /// What the next dials meet.
    dials: mpsc::UnboundedSender<Result<Session, SessionError>>,
    ready: Ready,
    metrics: Metrics,
    closing: CancellationToken,
    /// When it dialled.
    dialled: Arc<Mutex<Vec<Instant>>>,
}

fn bench(window: usize, session_lifetime: Duration) -> Bench {
    let (dials, queue) = mpsc::unbounded_channel();
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    let dialled = Arc::new(Mutex::new(Vec::new()));
    let times = dialled.clone();
    let dial: Dial = Arc::new(move || {
        times.lock().unwrap().push(Instant::now());
        let queue = queue.clone();
        async move {
            match queue.lock().await.recv().await {
                Some(result) => result,
                None => Err(SessionError::new("no session is left")),
            }
        }
        .boxed()
    });
    let (ready, metrics) = (Ready::new(), Metrics::new());
    let closing = CancellationToken::new();
    let (link, work) = link(LinkSettings {
        pod: "sink".into(),
        dial,
        window,
        session_lifetime,
        ready: ready.clone(),
        closing: closing.clone(),
        metrics: metrics.link("sink"),
    });
    let running = tokio::spawn(work);
    Bench {
        link: Some(link),
        running,
        dials,
        ready,
        metrics,
        closing,
        dialled,
    }
}

impl Bench {
    fn connect(&self) -> Far {
        let (session, far) = session();
        self.dials.send(Ok(session)).unwrap();
        far
    }

    async fn pass(&self, seq: u64) -> PendingAck {
        self.link
            .as_ref()
            .unwrap()
            .pass(Arc::new(message(seq)))
            .await
            .unwrap()
    }

    fn metric(&self, name: &str) -> String {
        let text = self.metrics.encode(Duration::ZERO, true).unwrap();
        let line = text.lines().find(|line| line.starts_with(name));
        line.unwrap_or_default()
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    }
}

fn message(seq: u64) -> Message {
    Message {
        id: Uuid::now_v7(),
        blueprint: "test-ferry".into(),
        seq,
        payload: Payload::of(&seq).unwrap(),
        trail: Vec::new(),
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn unacknowledged_are_resent_first_in_order() {
    let bench = bench(10, LONG);
    let mut far = bench.connect();
    let mut pending = Vec::new();
    for seq in 1..=4 {
        pending.push(bench.pass(seq).await);
    }
    let first = far.take().await;
    assert_eq!(far.take_all(3).await, [2, 3, 4]);
    far.acknowledge(&first).await;
    assert_eq!(pending.remove(0).answer().await.unwrap().id, first.id);
    far.lose().await;
    bench.pass(5).await;
    let mut far = bench.connect();
    assert_eq!(far.take_all(4).await, [2, 3, 4, 5]);
    assert_eq!(bench.metric("ferry_resends_total"), "3");
}

#[tokio::test(start_paused = true)]
async fn acks_in_any_order_or_unknown_are_taken() {
    let bench = bench(10, LONG);
    let mut far = bench.connect();
    let (one, two) = (bench.pass(1).await, bench.pass(2).await);
    let (first, second) = (far.take().await, far.take().await);
    far.acknowledge(&message(9)).await;
    far.acknowledge(&second).await;
    far.acknowledge(&second).await;
    assert_eq!(two.answer().await.unwrap().id, second.id);
    far.lose().await;
    let mut far = bench.connect();
    let again = far.take().await;
    assert_eq!(again.id, first.id, "only the first is still out");
    far.acknowledge(&again).await;
    assert_eq!(one.answer().await.unwrap().id, first.id);
}

#[tokio::test(start_paused = true)]
async fn branches_of_one_id_are_matched_by_trail() {
    let bench = bench(10, LONG);
    let mut far = bench.connect();
    let branch = |cluster: &str, id| {
        let mut message = Message { id, ..message(1) };
        message.trail.push(Hop {
            pod: "p".into(),
            role: Role::Processor,
            cluster: cluster.into(),
            namespace: "n".into(),
            node: "n".into(),
            at: Timestamp::now(),
            signature: "s".into(),
        });
        Arc::new(message)
    };
    let id = Uuid::now_v7();
    let link = bench.link.as_ref().unwrap();
    let left = link.pass(branch("left", id)).await.unwrap();
    let right = link.pass(branch("right", id)).await.unwrap();
    let (first, second) = (far.take().await, far.take().await);
    far.acknowledge(&second).await;
    assert_eq!(right.answer().await.unwrap().trail[0].cluster, "right");
    far.acknowledge(&first).await;
    assert_eq!(left.answer().await.unwrap().trail[0].cluster, "left");
}

#[tokio::test(start_paused = true)]
async fn full_window_holds_the_sender() {
    let bench = bench(2, LONG);
    let mut far = bench.connect();
    bench.pass(1).await;
    bench.pass(2).await;
    let first = far.take().await;
    let third = bench.pass(3).now_or_never();
    assert!(third.is_none(), "two are out");
    far.acknowledge(&first).await;
    bench.pass(4).await;
    assert_eq!(far.take_all(2).await, [2, 4]);
}

#[tokio::test(start_paused = true)]
async fn attempts_back_off_and_reset_after_success() {
    let bench = bench(10, LONG);
    for _ in 0..12 {
        bench.dials.send(Err(SessionError::new("refused"))).unwrap();
    }
    let mut far = bench.connect();
    bench.pass(1).await;
    let first = far.take().await;
    let times = std::mem::take(&mut *bench.dialled.lock().unwrap());
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps.len(), 12);
    // Timers of tokio have a resolution of one millisecond.
    let slack = Duration::from_millis(2);
    for (gap, most) in gaps.iter().zip(
        [100, 200, 400, 800, 1600, 3200]
            .into_iter()
            .chain([5000; 6]),
    ) {
        assert!(
            (FLOOR..=Duration::from_millis(most) + slack).contains(gap),
            "{gaps:?}"
        );
    }
    far.acknowledge(&first).await;
    bench.pass(2).await;
    far.take().await;
    let lost = Instant::now();
    far.lose().await;
    bench.connect().take().await;
    assert!(
        lost.elapsed() <= Duration::from_millis(100) + slack,
        "after a success it begins again"
    );
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_the_session() {
    let bench = bench(10, LONG);
    let mut accepting = bench.ready.accepting();
    assert_eq!(
        bench.ready.waiting_for(),
        ["an answer from `sink` through the tunnel"]
    );
    let far = bench.connect();
    accepting.wait_for(|accepting| *accepting).await.unwrap();
    far.lose().await;
    accepting.wait_for(|accepting| !accepting).await.unwrap();
    assert_eq!(
        bench.ready.waiting_for(),
        ["an answer from `sink` through the tunnel (last: cut)"]
    );
    let _far = bench.connect();
    accepting.wait_for(|accepting| *accepting).await.unwrap();
    assert_eq!(
        bench.metric("ferry_reconnects_total{downstream=\"sink\",cause=\"loss\"}"),
        "1"
    );
}

#[tokio::test(start_paused = true)]
async fn expired_session_is_drained_and_replaced() {
    let bench = bench(10, Duration::from_secs(20));
    let mut accepting = bench.ready.accepting();
    let mut far = bench.connect();
    let pending = bench.pass(1).await;
    let began = Instant::now();
    let first = far.take().await;
    // Its time comes after 18 to 20 s; without its answer it stays for 10 s more.
    tokio::time::sleep(Duration::from_secs(21)).await;
    bench.pass(2).await;
    assert!(
        far.messages.try_recv().is_err(),
        "nothing new goes onto a session that is to end"
    );
    far.acknowledge(&first).await;
    pending.answer().await.unwrap();
    let mut next = bench.connect();
    assert_eq!(next.take_all(1).await, [2]);
    assert!(
        far.messages.recv().await.is_none(),
        "the old session is closed"
    );
    assert!(began.elapsed() < Duration::from_secs(23));
    assert_eq!(bench.metric("ferry_resends_total"), "0");
    assert!(
        *accepting.borrow_and_update(),
        "a renewal is no reason to be not ready"
    );
}

#[tokio::test(start_paused = true)]
async fn expired_session_without_answers_is_replaced() {
    let bench = bench(10, Duration::from_secs(600));
    let mut far = bench.connect();
    bench.pass(1).await;
    let began = Instant::now();
    far.take().await;
    let mut next = bench.connect();
    assert_eq!(next.take_all(1).await, [1], "it is sent again");
    let (least, most) = (Duration::from_secs(540), Duration::from_secs(612));
    assert!(
        (least..most).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_last_ack() {
    let mut bench = bench(10, LONG);
    let mut far = bench.connect();
    let pending = bench.pass(1).await;
    let first = far.take().await;
    bench.closing.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!bench.running.is_finished());
    far.acknowledge(&first).await;
    pending.answer().await.unwrap();
    assert!(
        far.messages.recv().await.is_none(),
        "it says that no more will come"
    );
    drop(far);
    (&mut bench.running).await.unwrap();
    assert!(
        bench
            .link
            .unwrap()
            .pass(Arc::new(message(2)))
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn idle_link_ends_without_a_session() {
    let mut bench = bench(10, LONG);
    bench.dials.send(Err(SessionError::new("refused"))).unwrap();
    drop(bench.link.take());
    (&mut bench.running).await.unwrap();
}
