//! The rules for names in a blueprint, derived from the objects that they name.
//!
//! A new object that carries a name of a blueprint gets a line in [`OBJECTS`] or [`OF_SINKS`]; the check of blueprints, and the
//! tests that hold every rendered object against the rules of the API server, follow from it.

use messages::{Role, WorkloadName, is_dns_label};

use super::{
    draft::{At, Draft, DraftPod, called},
    problem::{Collector, quote},
};

/// Longest DNS label, and so longest namespace, Service and value of a label.
pub const LONGEST_LABEL: usize = 63;
/// Longest DNS name in text (RFC 1035, 3.1: 255 octets with the lengths of its labels).
pub(super) const LONGEST_DNS_NAME: usize = 253;
/// Longest common name, organisation and unit of a certificate's subject, in characters (RFC 5280, appendix A.1:
/// `ub-common-name`, `ub-organization-name`, `ub-organizational-unit-name`).
const LONGEST_ATTRIBUTE: usize = 64;
/// Longest trust domain, and longest SPIFFE ID, in bytes.
/// <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>
const LONGEST_TRUST_DOMAIN: usize = 255;
const LONGEST_SPIFFE_ID: usize = 2048;
/// Longest name of a file, in bytes (`NAME_MAX` of Linux and macOS).
const LONGEST_FILE_NAME: usize = 255;
/// Most bytes of what Ferry itself adds to the name of a pod's file or folder: `.request.crt`, `.log.1`, …
const FILE_ENDING: usize = 24;

/// How the names of namespaces begin that Kubernetes keeps for itself.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/#working-with-namespaces>
const RESERVED_PREFIX: &str = "kube-";

/// The server name of a pod's pinhole: `pinhole.<pod>.<cluster>.<blueprint>.ferry.internal`. No workload has such a name, so no
/// pin of a tunnel matches it.
pub fn pinhole_name(pod: &WorkloadName) -> String {
    format!("pinhole.{pod}")
}

/// The name of a sink's pod: that of its StatefulSet and the number of its only replica.
pub fn stateful_pod_name(pod: &WorkloadName) -> String {
    format!("{}-0", pod.pod())
}

/// The volume of a sink's messages: in its pod, and as the template of its claim.
pub const DATA_VOLUME: &str = "data";

/// The claim that a sink's messages lie on, as Kubernetes names it after the template and the pod.
pub fn claim_name(pod: &WorkloadName) -> String {
    format!("{DATA_VOLUME}-{}", stateful_pod_name(pod))
}

/// What the text of a name may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Letters, digits and hyphens, a letter or digit at both ends (RFC 1123, 2.1).
    Label,
    /// The same, and a letter first (RFC 1035, 2.3.1).
    LetterFirst,
    /// [`Shape::Label`]s with dots between.
    Dotted,
    /// Whatever labels, dots, slashes and the like make.
    Any,
}

/// Something that a name becomes.
#[derive(Clone, Copy)]
pub struct Object {
    /// As messages call it.
    pub what: &'static str,
    pub shape: Shape,
    /// Most bytes.
    pub longest: usize,
    pub name: fn(&WorkloadName) -> String,
}

/// The objects of one pod that carry names of a blueprint and have rules for them.
///
/// Not here, since Ferry cuts what would be too long: k3d's clusters (32 characters), the label of a bundle's environment.
/// The own name of a Deployment's pod is cut by Kubernetes; that of a StatefulSet's is not, so it is in [`OF_SINKS`].
pub const OBJECTS: [Object; 13] = [
    // https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
    Object {
        what: "namespace",
        shape: Shape::Label,
        longest: LONGEST_LABEL,
        name: WorkloadName::namespace,
    },
    // https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#rfc-1035-label-names
    Object {
        what: "Service",
        shape: Shape::LetterFirst,
        longest: LONGEST_LABEL,
        name: |name| name.pod().into(),
    },
    // And the PodDisruptionBudget and the TargetGroupBinding of that name.
    // https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names
    Object {
        what: "Deployment",
        shape: Shape::Dotted,
        longest: LONGEST_DNS_NAME,
        name: |name| name.pod().into(),
    },
    // https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
    Object {
        what: "label `app.kubernetes.io/name`",
        shape: Shape::Label,
        longest: LONGEST_LABEL,
        name: |name| name.pod().into(),
    },
    Object {
        what: "label `app.kubernetes.io/instance`",
        shape: Shape::Label,
        longest: LONGEST_LABEL,
        name: |name| name.blueprint().into(),
    },
    Object {
        what: "DNS name",
        shape: Shape::Dotted,
        longest: LONGEST_DNS_NAME,
        name: WorkloadName::to_string,
    },
    Object {
        what: "server name of the pinhole",
        shape: Shape::Dotted,
        longest: LONGEST_DNS_NAME,
        name: pinhole_name,
    },
    Object {
        what: "trust domain",
        shape: Shape::Dotted,
        longest: LONGEST_TRUST_DOMAIN,
        name: WorkloadName::trust_domain,
    },
    Object {
        what: "SPIFFE ID",
        shape: Shape::Any,
        longest: LONGEST_SPIFFE_ID,
        name: WorkloadName::spiffe_id,
    },
    Object {
        what: "organisation in the authority's certificate",
        shape: Shape::Any,
        longest: LONGEST_ATTRIBUTE,
        name: |name| name.blueprint().into(),
    },
    Object {
        what: "unit in the authority's certificate",
        shape: Shape::Any,
        longest: LONGEST_ATTRIBUTE,
        name: |name| name.cluster().into(),
    },
    Object {
        what: "common name in the authority's certificate",
        shape: Shape::Any,
        longest: LONGEST_ATTRIBUTE,
        name: |name| name.pod().into(),
    },
    // Folders and files in the state folder; sockets are dialled below a working directory and have room.
    Object {
        what: "folder of the pod's files",
        shape: Shape::Any,
        longest: LONGEST_FILE_NAME - FILE_ENDING,
        name: WorkloadName::to_string,
    },
];

/// What the name of a sink becomes on top of that, as that of a StatefulSet.
pub const OF_SINKS: [Object; 3] = [
    // And the label `statefulset.kubernetes.io/pod-name`, and the pod's host name.
    Object {
        what: "pod",
        shape: Shape::Label,
        longest: LONGEST_LABEL,
        name: stateful_pod_name,
    },
    // The StatefulSet's name, a hyphen and a hash of at most ten characters; no pod can be made where that is no label.
    // https://github.com/kubernetes/kubernetes/issues/64023
    Object {
        what: "label `controller-revision-hash`",
        shape: Shape::Label,
        longest: LONGEST_LABEL,
        name: |name| format!("{}-{}", name.pod(), u32::MAX),
    },
    Object {
        what: "PersistentVolumeClaim",
        shape: Shape::Dotted,
        longest: LONGEST_DNS_NAME,
        name: claim_name,
    },
];

impl Shape {
    pub fn fits(self, text: &str) -> bool {
        match self {
            Self::Label => is_dns_label(text),
            Self::LetterFirst => is_dns_label(text) && begins_with_letter(text),
            Self::Dotted => text.split('.').all(is_dns_label),
            Self::Any => true,
        }
    }
}

fn begins_with_letter(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
}

/// Whether a blueprint of this name would have namespaces that Kubernetes keeps for itself.
fn is_reserved(blueprint: &str) -> bool {
    // `kube` makes `kube-<pod>-ns`.
    format!("{blueprint}-").starts_with(RESERVED_PREFIX)
}

/// Whether the names of a draft can be those of all that they become. Each name by itself first; what two of them make together
/// is looked at only where both are good.
pub(super) fn check(draft: &Draft, problems: &mut Collector) {
    let blueprint = draft
        .name
        .as_ref()
        .filter(|name| blueprint_name(name, problems));
    for cluster in &draft.clusters.items {
        label("cluster", cluster, problems);
    }
    for pod in &draft.pods.items {
        let Some(name) = &pod.name else { continue };
        if !label("pod", name, problems) {
            continue;
        }
        if let Some(blueprint) = blueprint {
            together(&blueprint.value, pod, &name.value, problems);
        }
    }
}

/// True when pods can be named below it.
fn blueprint_name(name: &At<String>, problems: &mut Collector) -> bool {
    if !label("name of the blueprint", name, problems) {
        return false;
    }
    if is_reserved(&name.value) {
        let rest = name.value.trim_start_matches("kube").trim_matches('-');
        let other = if is_dns_label(rest) && !is_reserved(rest) {
            rest
        } else {
            "ferry"
        };
        problems.add(
            name.line,
            format!(
                "name of the blueprint {} makes namespaces that begin with `{RESERVED_PREFIX}`, which Kubernetes keeps for itself; use another, for example `{other}`",
                quote(&name.value)
            ),
        );
        return false;
    }
    // Below `<blueprint>-` and `-ns` there must be room for a pod's name.
    let longest = LONGEST_LABEL - "-x-ns".len();
    if name.value.len() > longest {
        problems.add(
            name.line,
            format!(
                "name of the blueprint {} has {} characters, which leaves no room for a pod's in the namespace `<blueprint>-<pod>-ns`; use at most {longest}",
                quote(&name.value),
                name.value.len(),
            ),
        );
        return false;
    }
    true
}

/// What the names of a pod, its cluster and its blueprint make.
fn together(blueprint: &str, pod: &DraftPod, name: &str, problems: &mut Collector) {
    let line = pod.name.as_ref().map_or(pod.line, |name| name.line);
    let called = called(pod);
    // Where the cluster is wrong or missing, that is said elsewhere, and what has no part of it is looked at all the same.
    let cluster = pod.cluster.as_ref().map(|cluster| cluster.value.as_str());
    let cluster = cluster.filter(|cluster| is_dns_label(cluster));
    let Ok(workload) = WorkloadName::new(blueprint, cluster.unwrap_or("c"), name) else {
        return;
    };
    let is_sink = pod
        .role
        .as_ref()
        .is_some_and(|role| role.value == Role::Sink);
    let of_sinks = OF_SINKS.into_iter().filter(|_| is_sink);
    for object in OBJECTS.into_iter().chain(of_sinks) {
        let Object {
            what,
            shape,
            longest,
            name: of,
        } = object;
        let text = of(&workload);
        if text.len() > longest {
            problems.add(
                line,
                format!(
                    "{what} {} of {called} has {} characters, more than {longest}; shorten the name of the pod or of the blueprint by {}",
                    quote(&text),
                    text.len(),
                    text.len() - longest
                ),
            );
        } else if !shape.fits(&text) {
            problems.add(line, misfit(what, &text, &called));
        }
    }
}

/// For a label: that it does not begin with a letter is all that can be wrong with it.
fn misfit(what: &str, text: &str, called: &str) -> String {
    let digits = text.trim_start_matches(|first: char| !first.is_ascii_lowercase());
    let example = [format!("pod-{text}"), digits.to_owned()]
        .into_iter()
        .find(|name| Shape::LetterFirst.fits(name))
        .map_or_else(String::new, |name| format!(", for example `{name}`"));
    format!(
        "{called} begins with a digit, and its {what} of that name must begin with a letter; give it another name{example}"
    )
}

/// True when `name` is a DNS label; a problem otherwise.
fn label(what: &str, name: &At<String>, problems: &mut Collector) -> bool {
    let good = is_dns_label(&name.value);
    if !good {
        let slug: String = name
            .value
            .to_lowercase()
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .take(LONGEST_LABEL)
            .collect();
        let slug = slug.trim_matches('-');
        let example = if is_dns_label(slug) {
            format!(", for example `{slug}`")
        } else {
            String::new()
        };
        problems.add(
            name.line,
            format!(
                "{what} {} is no DNS label; use 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends{example}",
                quote(&name.value)
            ),
        );
    }
    good
}
