//! Records and messages as text: tables, banner. Pure.

use std::fmt::Write as _;

use e2e::{
    environment::{PodRecord, Record, RuntimeKind},
    plan::PeerAddress,
};

use crate::output::{Style, Table};

/// Where the pods of an environment are.
pub fn pods(record: &Record, style: Style) -> String {
    let mut table = Table::new(["blueprint", "pod", "role", "cluster", "address", "runs as", "node"]);
    for pod in &record.pods {
        table.row([
            pod.name.blueprint(),
            pod.name.pod(),
            pod.role.as_str(),
            pod.name.cluster(),
            &address(pod.local_address.as_ref()),
            &pod.pod_name,
            &pod.node,
        ]);
    }
    table.text(style)
}

/// What runs where, and what to do next: the end of `local-up`.
pub fn banner(record: &Record, style: Style) -> String {
    let name = &record.name;
    let mut text = format!(
        "Ferry `{name}` is up on the {} runtime.\n\n{}\n\nNext:\n",
        runtime(record.runtime),
        pods(record, style)
    );
    for (command, why) in next_commands(record) {
        let _ = writeln!(text, "  {command:<46} # {why}");
    }
    text.trim_end().to_owned()
}

/// Commands as they can be pasted, each with what it is for.
pub fn next_commands(record: &Record) -> Vec<(String, String)> {
    let name = match record.name.as_str() {
        e2e::environment::DEFAULT_NAME => String::new(),
        name => format!(" --name {name}"),
    };
    let mut commands = vec![];
    for pod in &record.pods {
        if let Some(address) = &pod.local_address {
            let command = format!("curl http://{address}/health");
            commands.push((command, format!("{} in {}", pod.name.pod(), pod.name.cluster())));
        }
    }
    let gateways: Vec<_> = record
        .pods
        .iter()
        .filter(|pod| pod.role.as_str() == "gateway" && pod.token_file.is_some())
        .collect();
    if let Some(gateway) = gateways.first() {
        let which = if gateways.len() > 1 {
            format!(" --gateway {}/{}", gateway.name.blueprint(), gateway.name.pod())
        } else {
            String::new()
        };
        commands.push((
            format!("cargo xtask trigger --count 5{which}{name}"),
            "send more messages".into(),
        ));
    }
    for (command, why) in [
        ("trail", "every message, and the pods it crossed"),
        ("status", "what runs where, and how it is"),
        ("logs -f", "what the containers say"),
        ("local-down", "stop and remove it"),
    ] {
        commands.push((format!("cargo xtask {command}{name}"), why.into()));
    }
    commands
}

/// `blueprint/pod`: how a pod is named on the command line.
pub fn pod_name(pod: &PodRecord) -> String {
    format!("{}/{}", pod.name.blueprint(), pod.name.pod())
}

pub fn address(address: Option<&PeerAddress>) -> String {
    address.map_or_else(|| "none".into(), ToString::to_string)
}

pub const fn runtime(kind: RuntimeKind) -> &'static str {
    match kind {
        RuntimeKind::Embedded => "embedded",
        RuntimeKind::K3d => "k3d",
    }
}
