//! The log lines that operators and programs wait for.

use messages::{Protocol, Role};
use node::{Headers, Hooks, Payload, Refusal};
use settings::logging::{Colour, Format};

use crate::support::{
    eventually,
    log::Log,
    mint::Root,
    pod::{Pass, Spec, sink},
};

/// Returns the log of a gateway that sends `count` messages by itself, up to its last line.
async fn log_of_auto_trigger(format: Format, count: u32, hooks: impl Hooks) -> String {
    let log = Log::default();
    let _listening = log.listen(format, "info");
    let root = Root::new();
    let sink = sink(&root).await;
    let mut gateway = Spec::new(&root, Role::Gateway).to("sink", Protocol::Grpc, sink.relay);
    gateway.config.auto_trigger = count;
    let _gateway = gateway.start_with(hooks).await;
    eventually("the end of the auto-trigger", async || {
        Some(log.text()).filter(|text| text.contains("Auto-trigger complete"))
    })
    .await
}

#[tokio::test]
async fn auto_trigger_logs_human_lines() {
    let log = log_of_auto_trigger(Format::Human(Colour::None), 5, Pass).await;
    let starting = log.find("🔁 Auto-trigger starting — sending 5 messages\n");
    let complete = log.find("🔁 Auto-trigger complete — 5/5 messages sent.\n");
    assert!(starting.is_some() && starting < complete, "{log}");
}

#[tokio::test]
async fn auto_trigger_logs_json_lines() {
    let log = log_of_auto_trigger(Format::Json, 5, Pass).await;
    let messages: Vec<_> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|line| line["message"].as_str().map(str::to_owned))
        .filter(|message| message.contains("Auto-trigger"))
        .collect();
    assert_eq!(
        messages,
        [
            "🔁 Auto-trigger starting — sending 5 messages",
            "🔁 Auto-trigger complete — 5/5 messages sent.",
        ]
    );
}

/// Refuses the second message.
struct Refuses;

impl Hooks for Refuses {
    async fn on_trigger(&self, payload: Payload, _: &Headers) -> Result<Payload, Refusal> {
        match payload.as_str().contains("message 2 ") {
            true => Err(Refusal::because("two is one too many")),
            false => Ok(payload),
        }
    }
}

#[tokio::test]
async fn auto_trigger_logs_rejections() {
    let log = log_of_auto_trigger(Format::Human(Colour::None), 5, Refuses).await;
    assert!(
        log.contains("🔁 Auto-trigger complete — 4/5 messages sent."),
        "{log}"
    );
    assert!(log.contains("two is one too many"), "{log}");
}
