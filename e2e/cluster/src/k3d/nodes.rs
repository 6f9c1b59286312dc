//! Reads a cluster's owner and completeness from its containers. Does no I/O except in
//! [`owners`].

use std::collections::BTreeMap;

use host::docker::{self, Container, Owner, STATE_LABEL};

/// k3d's own labels.
pub(super) const CLUSTER_LABEL: &str = "k3d.cluster";
const ROLE_LABEL: &str = "k3d.role";

/// Everybody of whom there is a cluster on this machine, and the names of their clusters.
pub async fn owners() -> anyhow::Result<BTreeMap<Owner, Vec<String>>> {
    let mut owners = BTreeMap::<Owner, Vec<String>>::new();
    for container in docker::containers(&[STATE_LABEL.into()]).await? {
        if let (Some(owner), Some(cluster)) =
            (Owner::of(&container), container.label(CLUSTER_LABEL))
        {
            let clusters = owners.entry(owner).or_default();
            if !clusters.iter().any(|name| name == cluster) {
                clusters.push(cluster.into());
            }
        }
    }
    Ok(owners)
}

/// What a name already stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    Free,
    Ours,
    /// Somebody else's; the text completes "it belongs to …".
    Foreign(String),
}

/// Returns the owner of a cluster's containers. `claimed` is true if our state folder knows the
/// name, which is all there is
/// of a cluster until k3d has made its first node: the helper that it makes before carries no labels of ours.
pub(super) fn ownership(owner: &Owner, containers: &[Container], claimed: bool) -> Ownership {
    let mut nodes = containers
        .iter()
        .filter(|container| role(container).is_some())
        .peekable();
    if nodes.peek().is_none() {
        return match (containers, claimed) {
            (_, true) => Ownership::Ours,
            ([], false) => Ownership::Free,
            (_, false) => Ownership::Foreign("somebody who is creating it".into()),
        };
    }
    let other = nodes.find_map(|node| match Owner::of(node) {
        Some(found) if found == *owner => None,
        Some(found) => Some(format!(
            "the environment `{}` in `{}`",
            found.environment,
            found.state.display()
        )),
        None => Some("somebody else: it carries no label of Ferry".into()),
    });
    other.map_or(Ownership::Ours, Ownership::Foreign)
}

/// `server`, `agent` or `loadbalancer`; `None` for k3d's helper containers.
fn role(container: &Container) -> Option<&str> {
    container
        .label(ROLE_LABEL)
        .filter(|role| matches!(*role, "server" | "agent" | "loadbalancer"))
}

/// Names of the containers that run pods, servers first.
pub(super) fn kubernetes_nodes(containers: &[Container]) -> Vec<String> {
    ["server", "agent"]
        .into_iter()
        .flat_map(|wanted| {
            containers
                .iter()
                .filter(move |node| role(node) == Some(wanted))
        })
        .map(|node| node.name.clone())
        .collect()
}

/// When each container that runs pods was last started, by its name, which is the node's in Kubernetes too.
pub(super) fn starts(containers: &[Container]) -> BTreeMap<String, jiff::Timestamp> {
    let nodes = kubernetes_nodes(containers);
    containers
        .iter()
        .filter(|container| nodes.contains(&container.name))
        .filter_map(|container| Some((container.name.clone(), container.started_at?)))
        .collect()
}

/// Host port of every port of the load balancer, by the port inside.
pub(super) fn published(containers: &[Container]) -> BTreeMap<u16, u16> {
    containers
        .iter()
        .filter(|node| role(node) == Some("loadbalancer"))
        .flat_map(|node| &node.published)
        .map(|binding| (binding.container, binding.host))
        .collect()
}

/// Why a cluster of ours cannot be taken as it is; `None` where it can, running or stopped.
pub(super) fn reason_to_replace(
    containers: &[Container],
    image: &str,
    ports: &[(Option<u16>, u16)],
    finished: bool,
) -> Option<String> {
    if !finished {
        return Some("its creation was not finished".into());
    }
    for wanted in ["server", "agent", "loadbalancer"] {
        if !containers.iter().any(|node| role(node) == Some(wanted)) {
            return Some(format!("its {wanted} is gone"));
        }
    }
    for node in containers {
        if matches!(role(node), Some("server" | "agent")) && node.image != image {
            return Some(format!(
                "`{}` runs `{}` and not `{image}`",
                node.name, node.image
            ));
        }
        if !matches!(node.state.as_str(), "running" | "exited" | "created") {
            return Some(format!("`{}` is {}", node.name, node.state));
        }
    }
    let published = published(containers);
    ports
        .iter()
        .find_map(|(host, service)| match (published.get(service), host) {
            (None, _) => Some(format!("it has no port {service}")),
            (Some(found), Some(wanted)) if found != wanted => Some(format!(
                "it has port {service} at {found} and not at {wanted}"
            )),
            _ => None,
        })
}

/// The node whose log tells most about a failure: the first that has ended, else the server.
pub(super) fn suspect(containers: &[Container]) -> Option<&Container> {
    let ended = |node: &&Container| {
        role(node).is_some() && !matches!(node.state.as_str(), "running" | "created")
    };
    containers.iter().find(ended).or_else(|| {
        containers
            .iter()
            .find(|node| role(node) == Some("server") && node.state != "created")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::docker::Binding;

    fn owner() -> Owner {
        Owner {
            environment: "local".into(),
            state: "/w/target/ferry/local".into(),
        }
    }

    fn node(role: &str, owner: Option<&Owner>) -> Container {
        let mut labels = BTreeMap::from([(ROLE_LABEL.to_owned(), role.to_owned())]);
        for label in owner.into_iter().flat_map(Owner::labels) {
            let (key, value) = label.split_once('=').unwrap();
            labels.insert(key.into(), value.into());
        }
        Container {
            name: format!("k3d-a-{role}"),
            state: "running".into(),
            exit_code: 0,
            started_at: None,
            labels,
            image: "k3s".into(),
            volumes: vec![],
            published: match role {
                "loadbalancer" => vec![Binding {
                    host: 41000,
                    container: 30200,
                }],
                _ => vec![],
            },
        }
    }

    fn cluster() -> Vec<Container> {
        ["server", "agent", "loadbalancer"]
            .map(|role| node(role, Some(&owner())))
            .into()
    }

    #[test]
    fn cluster_is_ours_by_both_labels() {
        assert_eq!(ownership(&owner(), &cluster(), false), Ownership::Ours);
        let other = Owner {
            state: "/elsewhere".into(),
            ..owner()
        };
        assert_eq!(
            ownership(&owner(), &[node("server", Some(&other))], true),
            Ownership::Foreign("the environment `local` in `/elsewhere`".into())
        );
        let other = Owner {
            environment: "b".into(),
            ..owner()
        };
        assert!(matches!(
            ownership(&owner(), &[node("server", Some(&other))], true),
            Ownership::Foreign(_)
        ));
        assert!(matches!(
            ownership(&owner(), &[node("server", None)], true),
            Ownership::Foreign(_)
        ));
    }

    #[test]
    fn one_foreign_node_makes_the_cluster_foreign() {
        let mut nodes = cluster();
        nodes.push(node("agent", None));
        assert!(matches!(
            ownership(&owner(), &nodes, true),
            Ownership::Foreign(_)
        ));
    }

    #[test]
    fn state_folder_decides_before_first_node() {
        let helper = [node("noRole", None)];
        assert_eq!(ownership(&owner(), &helper, true), Ownership::Ours);
        assert!(matches!(
            ownership(&owner(), &helper, false),
            Ownership::Foreign(_)
        ));
        assert_eq!(ownership(&owner(), &[], true), Ownership::Ours);
        assert_eq!(ownership(&owner(), &[], false), Ownership::Free);
    }

    #[test]
    fn broken_cluster_is_replaced() {
        let ports = [(Some(41000), 30200), (None, 30200)];
        assert_eq!(reason_to_replace(&cluster(), "k3s", &ports, true), None);
        let mut stopped = cluster();
        stopped[1].state = "exited".into();
        assert_eq!(reason_to_replace(&stopped, "k3s", &ports, true), None);
        let reason = |nodes: &[Container], image: &str, port: (Option<u16>, u16), finished| {
            reason_to_replace(nodes, image, &[port], finished).unwrap()
        };
        assert!(reason(&cluster(), "k3s", (None, 30200), false).contains("not finished"));
        assert!(
            reason(&cluster()[..2], "k3s", (None, 30200), true).contains("loadbalancer is gone")
        );
        assert!(reason(&cluster(), "newer", (None, 30200), true).contains("and not `newer`"));
        assert!(reason(&cluster(), "k3s", (None, 30100), true).contains("no port 30100"));
        assert!(
            reason(&cluster(), "k3s", (Some(1), 30200), true).contains("at 41000 and not at 1")
        );
        stopped[0].state = "paused".into();
        assert!(reason(&stopped, "k3s", (None, 30200), true).contains("is paused"));
    }

    #[test]
    fn the_node_that_ended_is_the_suspect() {
        let mut nodes = cluster();
        assert_eq!(suspect(&nodes).unwrap().name, "k3d-a-server");
        nodes[1].state = "exited".into();
        assert_eq!(suspect(&nodes).unwrap().name, "k3d-a-agent");
        assert!(suspect(&[]).is_none());
    }
}
