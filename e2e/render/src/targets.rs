//! A pod's Service on each platform: how it requests the reserved load balancer and address.

mod aks;
mod commands;
mod eks;
mod generic;
mod gke;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use blueprint::{
    Target,
    failure::Failure,
    is_host,
    plan::{INGRESS_PORT, PeerAddress, Plan, PodPlan},
};
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use messages::WorkloadName;

use super::{
    Object, Options,
    objects::{metadata, selector},
};

pub use commands::commands;
pub use eks::TargetGroupBinding;

/// What a target adds to a Service.
#[derive(Debug, Default)]
struct Wish {
    annotations: BTreeMap<String, String>,
    load_balancer_class: Option<String>,
    load_balancer_ip: Option<String>,
}

impl Wish {
    fn annotate(&mut self, name: &str, value: impl Into<String>) {
        self.annotations.insert(name.into(), value.into());
    }
}

/// A Service is reached by both families where its cluster has both. One that asks for an address is of that address's family: a
/// load balancer that is to give one address for two families refuses.
/// <https://kubernetes.io/docs/concepts/services-networking/dual-stack/#services>
fn families(wish: &Wish) -> (&'static str, Option<Vec<String>>) {
    let address = |text: &String| text.parse::<IpAddr>().ok();
    let asked = wish.load_balancer_ip.as_ref().and_then(address);
    match asked.or_else(|| wish.annotations.values().find_map(address)) {
        None => ("PreferDualStack", None),
        Some(IpAddr::V4(_)) => ("SingleStack", Some(vec!["IPv4".into()])),
        Some(IpAddr::V6(_)) => ("SingleStack", Some(vec!["IPv6".into()])),
    }
}

/// What a Service can ask for: an IP address. A host name is for those who dial.
fn can_be_asked_for(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok()
}

/// The pod's public port on its cluster's load balancer, to Envoy's ingress, and what binds it to one that is there.
pub(super) fn service(pod: &PodPlan, options: &Options<'_>) -> Vec<Object> {
    let reserved = &pod.reserved;
    let binding = match (options.target, &reserved.eks) {
        (Target::Eks, Some(eks)) => eks::binding(pod, eks, metadata(pod, options, pod.name.pod())),
        _ => None,
    };
    let wish = match options.target {
        Target::K3d => Wish::default(),
        Target::Gke => gke::wish(reserved.gke.as_ref()),
        Target::Eks if binding.is_some() => Wish::default(),
        Target::Eks => eks::wish(reserved.eks.as_ref()),
        Target::Aks => aks::wish(reserved.aks.as_ref()),
        Target::Generic => generic::wish(reserved.generic.as_ref()),
    };
    let kind = if binding.is_some() {
        "ClusterIP"
    } else {
        "LoadBalancer"
    };
    let (policy, families) = families(&wish);
    let mut metadata = metadata(pod, options, pod.name.pod());
    if !wish.annotations.is_empty() {
        metadata.annotations = Some(wish.annotations);
    }
    let port = ServicePort {
        name: Some("tunnel".into()),
        port: i32::from(pod.public_port),
        target_port: Some(IntOrString::Int(i32::from(INGRESS_PORT))),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        type_: Some(kind.into()),
        ip_family_policy: Some(policy.into()),
        ip_families: families,
        selector: Some(selector(pod)),
        ports: Some(vec![port]),
        load_balancer_class: wish.load_balancer_class,
        load_balancer_ip: wish.load_balancer_ip,
        ..ServiceSpec::default()
    };
    let service = Service {
        metadata,
        spec: Some(spec),
        ..Service::default()
    };
    let service = Object::Service(Box::new(service));
    let binding = binding.map(Object::TargetGroupBinding);
    [Some(service), binding].into_iter().flatten().collect()
}

/// The host name of a load balancer that a pod is bound to without a Service that has its address. `None` where the
/// Service's status will tell.
pub fn bound_to(pod: &PodPlan, target: Target) -> Option<&str> {
    let eks = pod
        .reserved
        .eks
        .as_ref()
        .filter(|_| target == Target::Eks)?;
    eks.target_group.as_ref().and(eks.address.as_deref())
}

/// Where the pods are whose addresses are known before they are there: what their upstream pods are told.
pub fn reserved_peers(plan: &Plan, target: Target) -> BTreeMap<WorkloadName, PeerAddress> {
    let address = |pod: &PodPlan| {
        let host = pod.reserved.address(target)?.to_owned();
        Some((
            pod.name.clone(),
            PeerAddress {
                host,
                port: pod.public_port,
            },
        ))
    };
    plan.pods.iter().filter_map(address).collect()
}

/// Whether the address that a load balancer got is the one that was asked for; anything is, where none was, and any IP
/// address where a host name is reserved.
///
/// # Errors
///
/// A [`Failure::infrastructure`] with both addresses, and what to look at with the provider.
pub fn check_address(pod: &PodPlan, target: Target, came: &str) -> anyhow::Result<()> {
    let Some(asked) = pod.reserved.address(target) else {
        return Ok(());
    };
    let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
    let same = match (asked.parse::<IpAddr>(), came.parse::<IpAddr>()) {
        (Ok(asked), Ok(came)) => asked == came,
        // A load balancer of AWS has a host name that leads to its Elastic IP addresses.
        (Ok(_), Err(_)) if target == Target::Eks => eks::is_load_balancer(came),
        // Only DNS knows where a name leads; the dialling pod resolves it.
        (Err(_), Ok(_)) => true,
        _ => plain(asked) == plain(came),
    };
    if same {
        return Ok(());
    }
    let (name, namespace) = (&pod.name, pod.name.namespace());
    let hint = match target {
        Target::K3d | Target::Generic => generic::look_at(pod),
        Target::Gke => gke::look_at(pod),
        Target::Eks => eks::look_at(pod),
        Target::Aks => aks::look_at(pod),
    };
    Err(Failure::infrastructure(format!(
        "{}: the load balancer of {} got {came} instead of {asked}, which is reserved for it",
        name.cluster(),
        name.pod()
    ))
    .hint(format!(
        "run `kubectl --namespace {namespace} describe service {}` to see the reason; {hint}",
        name.pod()
    ))
    .into())
}

/// An address from the command line, as `CLUSTER=HOST` or `CLUSTER/POD=HOST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenAddress {
    pub cluster: String,
    /// Needed where the cluster has several pods.
    pub pod: Option<String>,
    /// An IP address or a host name.
    pub host: String,
}

/// A text that is no address of a pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` must be CLUSTER=HOST or CLUSTER/POD=HOST, where HOST is an IP address or a host name"
)]
pub struct InvalidAddress(String);

impl FromStr for GivenAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || {
            let (whose, host) = text.split_once('=')?;
            let (cluster, pod) = match whose.split_once('/') {
                Some((cluster, pod)) => (cluster, Some(pod)),
                None => (whose, None),
            };
            // In brackets it is an IPv6 address, as with a port.
            let bare = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .filter(|host| host.parse::<Ipv6Addr>().is_ok());
            let host = bare.unwrap_or(host);
            let named = messages::is_dns_label(cluster) && pod.is_none_or(messages::is_dns_label);
            (named && is_host(host)).then(|| Self {
                cluster: cluster.into(),
                pod: pod.map(Into::into),
                host: host.into(),
            })
        };
        parts().ok_or_else(|| InvalidAddress(text.chars().take(100).collect()))
    }
}

/// Puts addresses from the command line in place of those that the blueprint reserves.
///
/// # Errors
///
/// A [`Failure::usage`] where one names no pod of the plan, or several.
pub fn give(plan: &mut Plan, target: Target, addresses: &[GivenAddress]) -> anyhow::Result<()> {
    for given in addresses {
        let known: Vec<_> = plan
            .clusters
            .iter()
            .map(|cluster| cluster.name.clone())
            .collect();
        let meant = |pod: &PodPlan| {
            pod.name.cluster() == given.cluster
                && given
                    .pod
                    .as_deref()
                    .is_none_or(|name| name == pod.name.pod())
        };
        let mut found: Vec<_> = plan.pods.iter_mut().filter(|pod| meant(pod)).collect();
        // A pod without an upstream needs no address; if one pod remains, that one is meant.
        if given.pod.is_none() && found.len() > 1 {
            found.retain(|pod| !pod.upstreams.is_empty());
        }
        match &mut found[..] {
            [pod] => {
                let name = pod.name.pod().to_owned();
                pod.reserved.set_address(target, &name, &given.host);
            }
            [] => {
                return Err(Failure::usage(format!(
                    "an address is given for {}, which has no pod",
                    whose(given)
                ))
                .hint(format!("use one of the clusters {}", known.join(", ")))
                .into());
            }
            several => {
                let pods: Vec<_> = several.iter().map(|pod| pod.name.pod()).collect();
                return Err(Failure::usage(format!(
                    "an address is given for {}, which has the pods {}",
                    whose(given),
                    pods.join(", ")
                ))
                .hint(format!(
                    "name the pod: {}/{}={}",
                    given.cluster,
                    pods.first().unwrap_or(&"POD"),
                    given.host
                ))
                .into());
            }
        }
    }
    Ok(())
}

fn whose(given: &GivenAddress) -> String {
    match &given.pod {
        Some(pod) => format!("{}/{pod}", given.cluster),
        None => given.cluster.clone(),
    }
}
