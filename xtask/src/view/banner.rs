//! Formats the commands to inspect a running environment, ready to paste.

use std::path::Path;

use harness::runtime;
use host::environment::{ClusterRecord, Layout, Record, RuntimeKind};
use messages::{Role, WorkloadName};

use super::{pod_name, pods, runtime};
use crate::output::Style;

/// Formats the last output of `local-up`: pods and next commands. `folder` is the state folder.
pub(crate) fn banner(record: &Record, folder: &Path, style: Style) -> String {
    format!(
        "Ferry `{}` is up on the {} runtime.\n\n{}\n\nNext:\n{}",
        record.name,
        runtime(record.runtime),
        pods(record, style),
        commands(&next_commands(record, folder))
    )
}

/// Formats each command on a separate line below its purpose.
fn commands(commands: &[Next]) -> String {
    let blocks: Vec<_> = commands
        .iter()
        .map(|next| format!("  # {}\n  {}", next.why, next.command))
        .collect();
    blocks.join("\n")
}

/// A command to paste.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) command: String,
    /// Purpose of the command.
    pub(crate) why: String,
}

/// Returns the commands that apply to a running environment.
pub(crate) fn next_commands(record: &Record, folder: &Path) -> Vec<Next> {
    let mut all = vec![];
    let mut add = |command: String, why: &str| {
        all.push(Next {
            command,
            why: why.into(),
        });
    };
    if record.runtime == RuntimeKind::K3d {
        let kubeconfig = Layout::new(folder).kubeconfig();
        add(
            format!("export KUBECONFIG={}", quoted(&kubeconfig)),
            "kubectl for these clusters; your own kubeconfig is not touched",
        );
        for cluster in &record.clusters {
            add(
                format!("kubectl config use-context {}", context(record, cluster)),
                &format!("choose {}", cluster.name),
            );
        }
    }
    if let Some(existing) = &record.existing {
        let files: Vec<_> = existing
            .kubeconfig
            .iter()
            .map(|file| quoted(file))
            .collect();
        add(
            format!("export KUBECONFIG={}", files.join(":")),
            "kubectl for these clusters",
        );
    }
    for pod in &record.pods {
        if let Some(address) = &pod.local_address {
            add(
                format!("curl -s --noproxy '*' http://{address}/health"),
                &format!(
                    "{} in {}, from this machine",
                    pod.name.pod(),
                    pod.name.cluster()
                ),
            );
        }
    }
    if record.runtime != RuntimeKind::Embedded {
        for (command, why) in inside(record) {
            add(command, &why);
        }
    }
    let name = match record.name.as_str() {
        harness::ops::local::NAME => String::new(),
        name => format!(" --name {name}"),
    };
    let gateways: Vec<_> = record
        .pods
        .iter()
        .filter(|pod| pod.role == Role::Gateway && pod.token_file.is_some())
        .collect();
    if let Some(gateway) = gateways.first() {
        let which = if gateways.len() > 1 {
            format!(" --gateway {}", pod_name(gateway))
        } else {
            String::new()
        };
        add(
            format!("cargo xtask trigger --count 5{which}{name}"),
            "send more messages",
        );
    }
    for (command, why) in [
        ("trail", "every message, and the pods it crossed"),
        ("status", "pods and their state"),
        ("logs -f", "logs of the containers"),
        (
            runtime::of(record.runtime).removal_command(),
            "stop and remove it",
        ),
    ] {
        add(format!("cargo xtask {command}{name}"), why);
    }
    all
}

/// Returns commands that run inside the clusters: dialling the next pod, reading gateways' logs.
fn inside(record: &Record) -> Vec<(String, String)> {
    let mut commands = vec![];
    for pod in &record.pods {
        for target in &pod.downstreams {
            let address = record
                .pod(target)
                .and_then(|target| target.peer_address.as_ref());
            if let (Some(address), Some(images), Some(cluster)) =
                (address, &record.images, cluster_of(record, &pod.name))
            {
                let context = context(record, cluster);
                // Ferry's images have no shell and no curl, but `/probe`.
                let inside = match record.runtime {
                    // The cluster's policies may refuse a new pod, which also lacks the pull secret.
                    RuntimeKind::Existing => format!(
                        "kubectl --context {context} exec -n {} deploy/{} -c app --",
                        pod.namespace,
                        pod.name.pod()
                    ),
                    RuntimeKind::K3d | RuntimeKind::Embedded => format!(
                        "kubectl --context {context} run dial-{} --rm -i --restart=Never --image={} \
                         --image-pull-policy=Never --command --",
                        target.pod(),
                        images.services
                    ),
                };
                commands.push((
                    format!("{inside} /probe http://{address}/health"),
                    format!(
                        "{} in {}, from a pod in {}",
                        target.pod(),
                        target.cluster(),
                        cluster.name
                    ),
                ));
            }
        }
    }
    for pod in &record.pods {
        if let (Role::Gateway, Some(cluster)) = (pod.role, cluster_of(record, &pod.name)) {
            commands.push((
                format!(
                    "kubectl --context {} logs -n {} deploy/{} -c app | grep 'Auto-trigger'",
                    context(record, cluster),
                    pod.namespace,
                    pod.name.pod()
                ),
                format!("the first messages of {}", pod.name.pod()),
            ));
        }
    }
    commands
}

fn cluster_of<'a>(record: &'a Record, pod: &WorkloadName) -> Option<&'a ClusterRecord> {
    record
        .clusters
        .iter()
        .find(|cluster| cluster.name == pod.cluster())
}

/// Returns a cluster's context: on k3d in the environment's kubeconfig, else in the user's.
fn context(record: &Record, cluster: &ClusterRecord) -> String {
    match record.runtime {
        RuntimeKind::Existing => quoted(Path::new(&cluster.reference)),
        RuntimeKind::K3d | RuntimeKind::Embedded => format!("k3d-{}", cluster.reference),
    }
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "/._-+:@".contains(character);
    if text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Formats the note about an environment that `e2e --keep` left running.
pub(crate) fn kept(record: &Record, folder: &Path) -> String {
    format!(
        "kept: environment `{}` in `{}`\n{}",
        record.name,
        folder.display(),
        commands(&next_commands(record, folder))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(runtime: &str) -> Record {
        let pod = |name: &str, role: &str, port: u16, downstreams: &[&str]| {
            serde_json::json!({
                "name": name, "role": role, "namespace": format!("x-{role}-ns"), "stage": 0, "pod_name": "p", "node": "n",
                "peer_address": { "host": "host.k3d.internal", "port": port },
                "local_address": { "host": "127.0.0.1", "port": port },
                "token_file": "/t", "auto_trigger": 5, "downstreams": downstreams,
                "started_at": null, "ready_at": null,
            })
        };
        let sink = "out.cluster-b.x.ferry.internal";
        serde_json::from_value(serde_json::json!({
            "schema_version": 1, "name": "local", "runtime": runtime, "created_at": "2026-01-02T03:04:05Z", "owner": null,
            "blueprints": {}, "images": { "services": "ferry/services:1", "envoy": "envoy:1" },
            "clusters": [{ "name": "cluster-a", "reference": "cluster-a" }, { "name": "cluster-b", "reference": "cluster-b" }],
            "pods": [pod(sink, "sink", 30200, &[]), pod("in.cluster-a.x.ferry.internal", "gateway", 30100, &[sink])],
        }))
        .unwrap()
    }

    #[test]
    fn clusters_have_the_commands_of_the_guide() {
        let text = banner(&record("k3d"), Path::new("/w/a b"), Style::Plain);
        for command in [
            "export KUBECONFIG='/w/a b/kubeconfig'",
            "kubectl config use-context k3d-cluster-b",
            "curl -s --noproxy '*' http://127.0.0.1:30200/health",
            "kubectl --context k3d-cluster-a run dial-out --rm -i --restart=Never --image=ferry/services:1 \
             --image-pull-policy=Never --command -- /probe http://host.k3d.internal:30200/health",
            "kubectl --context k3d-cluster-a logs -n x-gateway-ns deploy/in -c app | grep 'Auto-trigger'",
            "cargo xtask trigger --count 5",
            "cargo xtask local-down",
        ] {
            assert!(
                text.contains(&format!("\n  {command}")),
                "{command} is missing in\n{text}"
            );
        }
    }

    #[test]
    fn banner_on_existing_clusters_makes_no_pod() {
        let text = banner(&record("existing"), Path::new("/w"), Style::Plain);
        let inside = "kubectl --context cluster-a exec -n x-gateway-ns deploy/in -c app -- /probe \
                      http://host.k3d.internal:30200/health";
        assert!(text.contains(&format!("\n  {inside}\n")), "{text}");
        assert!(!text.contains("kubectl run"), "{text}");
    }

    #[test]
    fn processes_have_no_commands_of_clusters() {
        let text = banner(&record("embedded"), Path::new("/w"), Style::Plain);
        assert!(!text.contains("kube"), "{text}");
        assert!(text.contains("curl -s --noproxy '*' http://127.0.0.1:30100/health"));
    }
}
