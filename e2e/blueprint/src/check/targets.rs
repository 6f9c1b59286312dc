//! Checks that the Services can request the reserved addresses as written.

use std::{collections::BTreeMap, net::IpAddr};

use super::super::{
    draft::{At, Draft},
    names::{LONGEST_DNS_NAME, LONGEST_LABEL, Shape},
    problem::{Collector, list, quote},
    targets::{AksAddress, EksAddress, GenericAddress, GkeAddress, Target},
};

pub(super) fn check(draft: &Draft, problems: &mut Collector) {
    let targets = &draft.targets;
    let (gke, eks) = (&targets.gke.items, &targets.eks.items);
    let (aks, generic) = (&targets.aks.items, &targets.generic.items);
    pods(
        draft,
        Target::Gke,
        gke.iter().map(|at| (at.line, at.value.pod.as_str())),
        problems,
    );
    pods(
        draft,
        Target::Eks,
        eks.iter().map(|at| (at.line, at.value.pod.as_str())),
        problems,
    );
    pods(
        draft,
        Target::Aks,
        aks.iter().map(|at| (at.line, at.value.pod.as_str())),
        problems,
    );
    pods(
        draft,
        Target::Generic,
        generic.iter().map(|at| (at.line, at.value.pod.as_str())),
        problems,
    );
    for At { line, value } in gke {
        report(
            *line,
            Target::Gke,
            &value.pod,
            gke_problems(value),
            problems,
        );
    }
    for At { line, value } in eks {
        report(
            *line,
            Target::Eks,
            &value.pod,
            eks_problems(value),
            problems,
        );
    }
    for At { line, value } in aks {
        report(
            *line,
            Target::Aks,
            &value.pod,
            aks_problems(value),
            problems,
        );
    }
    for At { line, value } in generic {
        report(
            *line,
            Target::Generic,
            &value.pod,
            generic_problems(value),
            problems,
        );
    }
}

/// Each names a pod of the blueprint, and no pod twice.
fn pods<'a>(
    draft: &Draft,
    target: Target,
    reserved: impl Iterator<Item = (usize, &'a str)>,
    problems: &mut Collector,
) {
    let known = || {
        draft
            .pods
            .items
            .iter()
            .filter_map(|pod| pod.name.as_ref())
            .map(|name| name.value.as_str())
    };
    let mut seen = BTreeMap::new();
    for (line, pod) in reserved {
        if draft.pods.complete && !known().any(|name| name == pod) {
            let fix = match problems.nearest(pod, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of the pods: {}", list(known())),
            };
            problems.add(
                line,
                format!(
                    "an address of {target} is for unknown pod {}; {fix}",
                    quote(pod)
                ),
            );
        }
        if let Some(first) = seen.insert(pod, line) {
            problems.add(
                line,
                format!("pod {} has two addresses of {target} (first on line {first}); remove one of them", quote(pod)),
            );
            seen.insert(pod, first);
        }
    }
}

fn report(line: usize, target: Target, pod: &str, found: Vec<String>, problems: &mut Collector) {
    for problem in found {
        problems.add(
            line,
            format!("the {target} address of pod {} {problem}", quote(pod)),
        );
    }
}

fn gke_problems(reserved: &GkeAddress) -> Vec<String> {
    let mut problems = vec![];
    if reserved.name.is_none() && reserved.address.is_none() {
        problems.push(
            "names nothing; add `name: <of the reserved address>` or `address: <IP address>`"
                .into(),
        );
    }
    if reserved.subnet.is_some() && !reserved.internal {
        problems.push("has a subnet, which only an internal one may have; add `internal: true` or remove `subnet`".into());
    }
    problems.extend(
        word("name", reserved.name.as_deref())
            .or_else(|| resource("name", reserved.name.as_deref())),
    );
    problems.extend(
        word("subnet", reserved.subnet.as_deref())
            .or_else(|| resource("subnet", reserved.subnet.as_deref())),
    );
    problems.extend(word("region", reserved.region.as_deref()));
    problems.extend(ip(reserved.address.as_deref()));
    problems
}

fn eks_problems(reserved: &EksAddress) -> Vec<String> {
    let mut problems = vec![];
    match (&reserved.target_group, reserved.allocations.is_empty()) {
        (None, true) => problems
            .push("names nothing; add `allocations: [eipalloc-…]` or `target-group: arn:…`".into()),
        (Some(_), false) => {
            problems.push("has both allocations and a target group; remove one of them".into())
        }
        (Some(arn), true) => {
            if !(arn.starts_with("arn:aws") && arn.contains(":targetgroup/") && is_plain(arn)) {
                problems.push(format!("has target group {}, which is no ARN of one; `aws elbv2 describe-target-groups` shows it", quote(arn)));
            }
            if reserved.address.is_none() {
                problems.push(
                    "has a target group and no `address`; add the host name of its load balancer"
                        .into(),
                );
            }
        }
        (None, false) => {}
    }
    for (items, prefix, what) in [
        (&reserved.allocations, "eipalloc-", "allocation"),
        (&reserved.subnets, "subnet-", "subnet"),
    ] {
        for item in items {
            let id = item.strip_prefix(prefix);
            if !id.is_some_and(|id| {
                !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
            }) {
                problems.push(format!(
                    "has {what} {}; write its id, `{prefix}…`",
                    quote(item)
                ));
            }
        }
    }
    if !reserved.subnets.is_empty() && reserved.subnets.len() != reserved.allocations.len() {
        problems.push(format!(
            "has {} subnets for {} allocations; give one allocation for each subnet",
            reserved.subnets.len(),
            reserved.allocations.len()
        ));
    }
    problems.extend(word("region", reserved.region.as_deref()));
    if let Some(address) = &reserved.address
        && !is_host(address)
    {
        problems.push(format!(
            "is {}; write an IP address or a host name",
            quote(address)
        ));
    }
    problems
}

fn aks_problems(reserved: &AksAddress) -> Vec<String> {
    let mut problems = vec![];
    if reserved.internal {
        if reserved.address.is_none() {
            problems.push("is internal and has no `address`; add a free one of the subnet".into());
        }
        if reserved.name.is_some() || reserved.resource_group.is_some() {
            problems.push(
                "is internal and names a public address; remove `name` and `resource-group`".into(),
            );
        }
    } else {
        if reserved.name.is_none() {
            problems.push("names nothing; add `name: <of the public address>`, or `internal: true` and `address`".into());
        }
        if reserved.subnet.is_some() {
            problems.push("has a subnet, which only an internal one may have; add `internal: true` or remove `subnet`".into());
        }
    }
    problems.extend(word("name", reserved.name.as_deref()));
    problems.extend(word("resource-group", reserved.resource_group.as_deref()));
    problems.extend(word("subnet", reserved.subnet.as_deref()));
    problems.extend(ip(reserved.address.as_deref()));
    problems
}

fn generic_problems(reserved: &GenericAddress) -> Vec<String> {
    let mut problems: Vec<_> = ip(Some(&reserved.address)).into_iter().collect();
    if let Some(class) = &reserved.class
        && !is_qualified(class)
    {
        problems.push(format!(
            "has class {}; write for example `class: metallb.io/metallb`",
            quote(class)
        ));
    }
    problems
}

fn ip(address: Option<&str>) -> Option<String> {
    let address = address?;
    let good = address.parse::<IpAddr>().is_ok();
    (!good).then(|| {
        format!(
            "is {}; write an IP address, for example 203.0.113.10",
            quote(address)
        )
    })
}

/// Ends up in commands and annotations, so it is of letters that mean nothing there.
fn word(key: &str, text: Option<&str>) -> Option<String> {
    let text = text?;
    let good = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.()".contains(&byte));
    let good =
        good && text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.len() <= 90;
    (!good).then(|| {
        format!(
            "has `{key}` {}; use 1 to 90 letters, digits, `-`, `_`, `.`",
            quote(text)
        )
    })
}

/// The name of a resource of Google Cloud.
/// <https://cloud.google.com/compute/docs/naming-resources#resource-name-format>
fn resource(key: &str, text: Option<&str>) -> Option<String> {
    let text = text?;
    (!Shape::LetterFirst.fits(text)).then(|| {
        format!(
            "has `{key}` {}; a resource of Google Cloud has 1 to 63 of `a-z`, `0-9` and `-`, a letter first and no `-` last",
            quote(text)
        )
    })
}

/// What the API server takes as the class of a load balancer: a name, and a DNS name with a slash before it where there is one.
/// <https://kubernetes.io/docs/concepts/services-networking/service/#load-balancer-class>
fn is_qualified(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    prefix.is_none_or(|prefix| prefix.len() <= LONGEST_DNS_NAME && Shape::Dotted.fits(prefix))
        && name.len() <= LONGEST_LABEL
        && ends
            .iter()
            .all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_plain(text: &str) -> bool {
    text.len() <= 256
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte))
}

/// An IP address or a host name. What ends with a number is no host name, but an IP address with a slip in it.
/// <https://url.spec.whatwg.org/#ends-in-a-number-checker>
pub fn is_host(text: &str) -> bool {
    let is_name = || {
        let last = text.rsplit('.').next().unwrap_or_default();
        text.len() <= LONGEST_DNS_NAME
            && Shape::Dotted.fits(&text.to_ascii_lowercase())
            && !last.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.parse::<IpAddr>().is_ok() || is_name()
}
