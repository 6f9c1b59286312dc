//! NetworkPolicies: they deny every connection that is not permitted here, in both directions.
//!
//! No rule lets the kubelet's probes in, since what comes from a pod's own node is always let in; and none can name a load
//! balancer, whose packets may carry any address. So the tunnel's port is open to all, and Envoy decides there.
//! What the harness asks of a pod comes by a forwarded port, which begins in the pod and meets no rule.
//! <https://kubernetes.io/docs/concepts/services-networking/network-policies/>

use std::collections::{BTreeMap, BTreeSet};

use blueprint::plan::{ENVOY_STATS_PORT, HTTP_PORT, INGRESS_PORT, PodPlan, WOSP_PORT};
use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule,
        NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    Options,
    objects::{self, Labels},
};

/// A namespace that carries this label with the value `true` may read the pods' metrics: for the one Prometheus is in.
pub const METRICS_LABEL: &str = "ferry.internal/metrics";
/// Label of a namespace that Kubernetes itself sets to the namespace's name.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";
const DNS_PORT: u16 = 53;
/// Resolvers that are no pods, so that no selector finds them: NodeLocal DNSCache, and Cloud DNS on a node of GKE.
/// <https://kubernetes.io/docs/tasks/administer-cluster/nodelocaldns/>
/// <https://cloud.google.com/kubernetes-engine/docs/how-to/cloud-dns>
const NODE_RESOLVERS: [&str; 2] = ["169.254.20.10/32", "169.254.169.254/32"];

/// The policies of a pod's namespace.
pub(super) fn policies(pod: &PodPlan, options: &Options<'_>) -> Vec<NetworkPolicy> {
    let policy = |name: &str, spec: NetworkPolicySpec| NetworkPolicy {
        metadata: objects::metadata(pod, options, name),
        spec: Some(spec),
    };
    let own = objects::selector(pod);
    let tunnel = NetworkPolicyIngressRule {
        from: None,
        ports: Some(tcp([INGRESS_PORT])),
    };
    let metrics = NetworkPolicyIngressRule {
        from: Some(vec![namespaces(METRICS_LABEL, "true")]),
        ports: Some(tcp([HTTP_PORT, ENVOY_STATS_PORT, WOSP_PORT])),
    };
    let mut policies = vec![
        policy("default-deny", nothing()),
        policy("tunnel", lets_in(&own, tunnel)),
        policy("metrics", lets_in(&own, metrics)),
        policy("dns", lets_out(&own, vec![dns()])),
    ];
    policies.extend(peers(pod, options));
    policies
}

/// What lets a pod reach its peers: their public ports, at any address, since a peer may be a host name and a policy knows
/// only addresses. `None` if it sends to no pod.
pub(super) fn peers(pod: &PodPlan, options: &Options<'_>) -> Option<NetworkPolicy> {
    let ports: BTreeSet<u16> = pod
        .egress
        .iter()
        .map(|out| {
            let known = options.peers.get(&out.target);
            known.map_or(out.public_port, |peer| peer.port)
        })
        .collect();
    if ports.is_empty() {
        return None;
    }
    let public = NetworkPolicyEgressRule {
        to: None,
        ports: Some(tcp(ports)),
    };
    // The address of a load balancer of the same cluster is replaced by the pod's before a policy sees it.
    let beside = pod
        .egress
        .iter()
        .filter(|out| out.target.cluster() == pod.name.cluster())
        .map(|out| namespaces(NAMESPACE_LABEL, &out.target.namespace()));
    let beside: Vec<_> = beside.collect();
    let beside = (!beside.is_empty()).then(|| NetworkPolicyEgressRule {
        to: Some(beside),
        ports: Some(tcp([INGRESS_PORT])),
    });
    let rules = [Some(public), beside].into_iter().flatten().collect();
    Some(NetworkPolicy {
        metadata: objects::metadata(pod, options, "peers"),
        spec: Some(lets_out(&objects::selector(pod), rules)),
    })
}

/// The policies of a namespace whose pods only dial: no ingress, egress to DNS and, for pods with
/// `labels`, `port`.
pub fn dialling(
    namespace: &str,
    labels: &BTreeMap<String, String>,
    port: u16,
) -> Vec<NetworkPolicy> {
    let policy = |name: &str, spec: NetworkPolicySpec| NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(namespace.into()),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    };
    let out = NetworkPolicyEgressRule {
        to: None,
        // As above, the tunnel's own port stands for a load balancer of the same cluster.
        ports: Some(tcp([port, INGRESS_PORT])),
    };
    vec![
        policy("default-deny", nothing()),
        policy("dns", lets_out(&Labels::new(), vec![dns()])),
        policy(&format!("port-{port}"), lets_out(labels, vec![out])),
    ]
}

/// Everything that no other policy lets through is refused, for all pods of the namespace.
fn nothing() -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(LabelSelector::default()),
        policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
        ..NetworkPolicySpec::default()
    }
}

fn lets_in(pods: &Labels, rule: NetworkPolicyIngressRule) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(selector(pods)),
        policy_types: Some(vec!["Ingress".into()]),
        ingress: Some(vec![rule]),
        ..NetworkPolicySpec::default()
    }
}

fn lets_out(pods: &Labels, rules: Vec<NetworkPolicyEgressRule>) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(selector(pods)),
        policy_types: Some(vec!["Egress".into()]),
        egress: Some(rules),
        ..NetworkPolicySpec::default()
    }
}

/// The cluster's resolvers, which all distributions run in `kube-system`, or on the node.
fn dns() -> NetworkPolicyEgressRule {
    let on_node = NODE_RESOLVERS.map(|cidr| NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: cidr.into(),
            except: None,
        }),
        ..NetworkPolicyPeer::default()
    });
    let mut to = vec![namespaces(NAMESPACE_LABEL, "kube-system")];
    to.extend(on_node);
    NetworkPolicyEgressRule {
        to: Some(to),
        ports: Some(vec![port(DNS_PORT, "UDP"), port(DNS_PORT, "TCP")]),
    }
}

fn namespaces(label: &str, value: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(selector(&[(label.into(), value.into())].into())),
        ..NetworkPolicyPeer::default()
    }
}

fn selector(labels: &Labels) -> LabelSelector {
    LabelSelector {
        match_labels: (!labels.is_empty()).then(|| labels.clone()),
        ..LabelSelector::default()
    }
}

fn tcp(ports: impl IntoIterator<Item = u16>) -> Vec<NetworkPolicyPort> {
    ports
        .into_iter()
        .map(|number| port(number, "TCP"))
        .collect()
}

fn port(number: u16, protocol: &str) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some(protocol.into()),
        end_port: None,
    }
}
