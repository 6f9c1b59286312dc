//! Any cluster whose load balancers take the address from the Service.

use blueprint::{GenericAddress, plan::PodPlan};

use super::{Wish, can_be_asked_for};

/// <https://metallb.io/usage/#requesting-specific-ips>
const METALLB_ADDRESSES: &str = "metallb.io/loadBalancerIPs";

pub(super) fn wish(reserved: Option<&GenericAddress>) -> Wish {
    let mut wish = Wish::default();
    let Some(reserved) = reserved else {
        return wish;
    };
    wish.load_balancer_class.clone_from(&reserved.class);
    if !can_be_asked_for(&reserved.address) {
        return wish;
    }
    // MetalLB refuses a Service that has both.
    if reserved.metallb {
        wish.annotate(METALLB_ADDRESSES, &reserved.address);
    } else {
        // https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/
        wish.load_balancer_ip = Some(reserved.address.clone());
    }
    wish
}

pub(super) fn look_at(pod: &PodPlan) -> String {
    let reserved = pod.reserved.generic.as_ref();
    if reserved.is_some_and(|reserved| reserved.metallb) {
        "`kubectl get ipaddresspools.metallb.io --all-namespaces` shows whether a pool holds the address".into()
    } else {
        "see whether the cluster's load balancer takes `spec.loadBalancerIP`, and whether the address is free".into()
    }
}
