//! Azure Kubernetes Service: a static public address by name, or an internal one.

use blueprint::{AksAddress, plan::PodPlan};

use super::{Wish, can_be_asked_for};

/// <https://learn.microsoft.com/azure/aks/static-ip>
const NAME: &str = "service.beta.kubernetes.io/azure-pip-name";
const RESOURCE_GROUP: &str = "service.beta.kubernetes.io/azure-load-balancer-resource-group";
/// <https://learn.microsoft.com/azure/aks/internal-lb>
const INTERNAL: &str = "service.beta.kubernetes.io/azure-load-balancer-internal";
const SUBNET: &str = "service.beta.kubernetes.io/azure-load-balancer-internal-subnet";
const ADDRESS: &str = "service.beta.kubernetes.io/azure-load-balancer-ipv4";
const ADDRESS_V6: &str = "service.beta.kubernetes.io/azure-load-balancer-ipv6";

pub(super) fn wish(reserved: Option<&AksAddress>) -> Wish {
    let mut wish = Wish::default();
    let Some(reserved) = reserved else {
        return wish;
    };
    if reserved.internal {
        wish.annotate(INTERNAL, "true");
        if let Some(subnet) = &reserved.subnet {
            wish.annotate(SUBNET, subnet);
        }
    }
    if let Some(group) = &reserved.resource_group {
        wish.annotate(RESOURCE_GROUP, group);
    }
    match (&reserved.name, &reserved.address) {
        (Some(name), _) => wish.annotate(NAME, name),
        (None, Some(address)) if can_be_asked_for(address) => {
            let name = if address.contains(':') {
                ADDRESS_V6
            } else {
                ADDRESS
            };
            wish.annotate(name, address);
        }
        (None, _) => {}
    }
    wish
}

pub(super) fn look_at(pod: &PodPlan) -> String {
    let reserved = pod.reserved.aks.clone().unwrap_or_default();
    match (reserved.name, reserved.resource_group) {
        (Some(name), group) => format!(
            "`az network public-ip show --name {name} --resource-group {}` shows the address; it must be static and of SKU Standard, and the cluster's identity must be Network Contributor of that group",
            group.as_deref().unwrap_or("GROUP")
        ),
        (None, _) => "the address must be free and of the subnet, and the cluster's identity must be Network Contributor of it".into(),
    }
}
