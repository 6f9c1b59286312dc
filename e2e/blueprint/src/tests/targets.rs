//! Reserved addresses.

use rstest::rstest;

use super::{GOOD, assert_problems, parse};
use crate::Target;

fn with_targets(targets: &str) -> String {
    format!("{GOOD}targets:\n{targets}\n")
}

#[test]
fn what_was_reserved_is_found_by_pod_and_target() {
    let text = with_targets(
        "  gke: [{pod: end, name: ferry, address: 203.0.113.1, region: europe-west1}]
  eks: [{pod: end, allocations: [eipalloc-1, eipalloc-2], subnets: [subnet-1, subnet-2], address: 203.0.113.2}]
  aks: [{pod: end, internal: true, address: 10.0.0.3, subnet: apps}]
  generic: [{pod: end, address: '2001:db8::4', class: metallb.io/metallb, metallb: true}]",
    );
    let blueprint = parse(&text).unwrap();
    let reserved = blueprint.targets.of("end");
    let address = |target| reserved.address(target);
    assert_eq!(
        Target::ALL.map(address),
        [
            None,
            Some("203.0.113.1"),
            Some("203.0.113.2"),
            Some("10.0.0.3"),
            Some("2001:db8::4")
        ]
    );
    assert_eq!(
        reserved.eks.as_ref().unwrap().subnets,
        ["subnet-1", "subnet-2"]
    );
    assert_eq!(blueprint.targets.of("gate"), Default::default());
    assert!(parse(GOOD).unwrap().targets.is_empty());
}

#[test]
fn every_target_is_read_by_its_name() {
    for target in Target::ALL {
        assert_eq!(target.as_str().parse(), Ok(target));
    }
    assert!(
        "GKE"
            .parse::<Target>()
            .unwrap_err()
            .to_string()
            .contains("gke, eks")
    );
}

#[rstest]
#[case(
    "gke: [{pod: end}]",
    "the gke address of pod `end` names nothing; add `name: <of the reserved address>` or `address: <IP address>`"
)]
#[case(
    "gke: [{pod: edn, name: a}]",
    "an address of gke is for unknown pod `edn`; did you mean `end`?"
)]
#[case(
    "gke: [{pod: end, name: a}, {pod: end, name: b}]",
    "pod `end` has two addresses of gke (first on line 25); remove one of them"
)]
#[case(
    "gke: [{pod: end, name: \"a b\"}]",
    "the gke address of pod `end` has `name` `a b`; use 1 to 90 letters, digits, `-`, `_`, `.`"
)]
#[case(
    "gke: [{pod: end, name: \"a';id'\"}]",
    "the gke address of pod `end` has `name` `a';id'`; use 1 to 90 letters, digits, `-`, `_`, `.`"
)]
#[case(
    "gke: [{pod: end, name: 1st_address}]",
    "the gke address of pod `end` has `name` `1st_address`; a resource of Google Cloud has 1 to 63 of `a-z`, `0-9` and `-`, a letter first and no `-` last"
)]
#[case(
    "generic: [{pod: end, address: 192.0.2.10, class: \"a/b/c\"}]",
    "the generic address of pod `end` has class `a/b/c`; write for example `class: metallb.io/metallb`"
)]
#[case(
    "eks: [{pod: end, allocations: [eipalloc-1], address: 203.0.113.256}]",
    "the eks address of pod `end` is `203.0.113.256`; write an IP address or a host name"
)]
#[case(
    "gke: [{pod: end, address: 203.0.113}]",
    "the gke address of pod `end` is `203.0.113`; write an IP address, for example 203.0.113.10"
)]
#[case(
    "gke: [{pod: end, name: a, subnet: b}]",
    "the gke address of pod `end` has a subnet, which only an internal one may have; add `internal: true` or remove `subnet`"
)]
#[case(
    "gke: [{pod: end, nmae: a, address: 203.0.113.1}]",
    "unknown key `nmae` in address of `end`; did you mean `name`?"
)]
#[case(
    "gek: [{pod: end, name: a}]",
    "unknown key `gek` in `targets`; did you mean `gke`?"
)]
#[case(
    "eks: [{pod: end}]",
    "the eks address of pod `end` names nothing; add `allocations: [eipalloc-…]` or `target-group: arn:…`"
)]
#[case(
    "eks: [{pod: end, allocations: [a]}]",
    "the eks address of pod `end` has allocation `a`; write its id, `eipalloc-…`"
)]
#[case(
    "eks: [{pod: end, allocations: [eipalloc-1], subnets: [subnet-1, subnet-2]}]",
    "the eks address of pod `end` has 2 subnets for 1 allocations; give one allocation for each subnet"
)]
#[case(
    "eks: [{pod: end, target-group: \"arn:aws:elasticloadbalancing:r:1:targetgroup/a/1\"}]",
    "the eks address of pod `end` has a target group and no `address`; add the host name of its load balancer"
)]
#[case(
    "eks: [{pod: end, target-group: no, address: a.example}]",
    "the eks address of pod `end` has target group `no`, which is no ARN of one; `aws elbv2 describe-target-groups` shows it"
)]
#[case(
    "aks: [{pod: end, internal: true}]",
    "the aks address of pod `end` is internal and has no `address`; add a free one of the subnet"
)]
#[case(
    "aks: [{pod: end, resource-group: a}]",
    "the aks address of pod `end` names nothing; add `name: <of the public address>`, or `internal: true` and `address`"
)]
#[case(
    "aks: [{pod: end, internal: true, name: a, address: 10.0.0.1}]",
    "the aks address of pod `end` is internal and names a public address; remove `name` and `resource-group`"
)]
#[case(
    "generic: [{pod: end, address: lb.example}]",
    "the generic address of pod `end` is `lb.example`; write an IP address, for example 203.0.113.10"
)]
#[case(
    "generic: [{pod: end}]",
    "address of `end` lacks `address`; add `address: 192.0.2.10`"
)]
fn a_problem_is_told_with_its_line(#[case] targets: &str, #[case] problem: &str) {
    assert_problems(
        &with_targets(&format!("  {targets}")),
        &[&format!("25: {problem}")],
    );
}
