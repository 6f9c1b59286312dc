//! Addresses that replace those of load balancers. Does no I/O.

use std::{net::IpAddr, str::FromStr};

use blueprint::{
    failure::Failure,
    is_host,
    plan::{PeerAddress, Plan, PodPlan},
};

/// `CLUSTER=HOST[:PORT]` or `BLUEPRINT/POD=HOST[:PORT]`; the port is the pod's public one unless given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressOf {
    of: String,
    host: String,
    port: Option<u16>,
}

impl FromStr for AddressOf {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let parsed = text.split_once('=').and_then(|(of, address)| {
            let (host, port) = split(address)?;
            (!of.is_empty()).then(|| Self {
                of: of.into(),
                host: host.into(),
                port,
            })
        });
        parsed.ok_or_else(|| {
            Failure::usage(format!(
                "invalid `{text}`: expected CLUSTER=HOST[:PORT], such as `cluster-b=203.0.113.7` \
                 or `cluster-b=[2001:db8::7]:30200`"
            ))
        })
    }
}

/// Host and port; `None` where it is neither an IP address nor a host name.
fn split(address: &str) -> Option<(&str, Option<u16>)> {
    if address.parse::<IpAddr>().is_ok() {
        return Some((address, None));
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port != 0)?)),
        None => (address, None),
    };
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        return matches!(inner.parse(), Ok(IpAddr::V6(_))).then_some((inner, port));
    }
    // A trailing dot marks a complete name, as which it is treated anyway.
    let host = host.strip_suffix('.').unwrap_or(host);
    is_host(host).then_some((host, port))
}

/// Refuses what names nothing in the plan, and a port that several pods would share. `flag` is for messages.
pub(super) fn check(given: &[AddressOf], plan: &Plan, flag: &str) -> anyhow::Result<()> {
    for (index, one) in given.iter().enumerate() {
        let pods = plan.pods.iter().filter(|pod| is_for(one, pod)).count();
        if pods == 0 {
            let known: Vec<_> = plan.pods.iter().map(pod_key).collect();
            return Err(Failure::usage(format!(
                "`{flag} {}=…` matches no cluster and no pod",
                one.of
            ))
            .hint(format!(
                "use one of {}, or a pod: {}",
                super::names(plan),
                known.join(", ")
            ))
            .into());
        }
        if pods > 1 && one.port.is_some() {
            return Err(Failure::usage(format!(
                "`{flag} {}=…:{}` gives {pods} pods the same port",
                one.of,
                one.port.unwrap_or_default()
            ))
            .hint("omit the port, or name the pod as BLUEPRINT/POD")
            .into());
        }
        if given[..index].iter().any(|earlier| earlier.of == one.of) {
            return Err(Failure::usage(format!("`{flag} {}=…` is given twice", one.of)).into());
        }
    }
    Ok(())
}

/// Where a pod is, as it was given: by its own name before its cluster's.
pub(super) fn given(all: &[AddressOf], pod: &PodPlan) -> Option<PeerAddress> {
    let own = all.iter().find(|one| one.of == pod_key(pod));
    let of_cluster = || all.iter().find(|one| one.of == pod.name.cluster());
    own.or_else(of_cluster).map(|one| PeerAddress {
        host: one.host.clone(),
        port: one.port.unwrap_or(pod.public_port),
    })
}

fn pod_key(pod: &PodPlan) -> String {
    format!("{}/{}", pod.name.blueprint(), pod.name.pod())
}

fn is_for(one: &AddressOf, pod: &PodPlan) -> bool {
    one.of == pod.name.cluster() || one.of == pod_key(pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use blueprint::{
        Blueprint,
        plan::{Ports, Sockets},
    };

    /// A gateway in cluster-a, two sinks in cluster-b.
    fn plan() -> Plan {
        let text = "name: x\ntitle: X\nprotocol: grpc\nclusters: [cluster-a, cluster-b]\npods:\n\
            - { name: gateway, role: gateway, cluster: cluster-a, port: 30100 }\n\
            - { name: left, role: sink, cluster: cluster-b, port: 30200 }\n\
            - { name: right, role: sink, cluster: cluster-b, port: 30201 }\n\
            connections:\n- { from: gateway, to: left }\n- { from: gateway, to: right }\n";
        let blueprint = Blueprint::parse(text, "x.yaml".as_ref()).unwrap();
        Plan::of(&[blueprint], Ports::AsWritten, &|_| Sockets::in_pod()).unwrap()
    }

    fn parse(given: &[&str]) -> anyhow::Result<Vec<AddressOf>> {
        Ok(given
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?)
    }

    #[test]
    fn a_pod_has_its_own_address_before_its_clusters() {
        let all = parse(&["cluster-b=lb.example.com", "x/right=[2001:db8::7]:443"]).unwrap();
        let plan = plan();
        check(&all, &plan, "--address").unwrap();
        let shown = |name: &str| {
            let pod = plan.pods.iter().find(|pod| pod.name.pod() == name).unwrap();
            given(&all, pod).map(|address| address.to_string())
        };
        assert_eq!(shown("left").unwrap(), "lb.example.com:30200");
        assert_eq!(shown("right").unwrap(), "[2001:db8::7]:443");
        assert_eq!(shown("gateway"), None);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "cluster-b",
            "cluster-b=",
            "=1.2.3.4",
            "cluster-b=http://x",
            "cluster-b=x:0",
            "cluster-b=x:70000",
            "cluster-b=x:",
            "cluster-b=a b",
            "cluster-b=-x",
            "cluster-b=a..b",
            "cluster-b=a..",
            "cluster-b=.",
            "cluster-b=[1.2.3.4]:1",
            "cluster-b=[::1",
        ] {
            assert!(
                text.parse::<AddressOf>().is_err(),
                "`{text}` must be refused"
            );
        }
        assert_eq!(split("::1"), Some(("::1", None)));
        assert_eq!(split("lb.example.com."), Some(("lb.example.com", None)));
        assert_eq!(
            split("lb.example.com.:80"),
            Some(("lb.example.com", Some(80)))
        );
    }

    #[test]
    fn unknown_or_ambiguous_address_is_refused() {
        for (given, says) in [
            (&["cluster-z=x"][..], "matches no cluster"),
            (&["x/middle=x"], "matches no cluster"),
            (&["cluster-b=x:1"], "gives 2 pods the same port"),
            (&["cluster-b=x", "cluster-b=y"], "is given twice"),
        ] {
            let error = check(&parse(given).unwrap(), &plan(), "--reach").unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(Failure::exit_code(&error), 2);
        }
    }
}
