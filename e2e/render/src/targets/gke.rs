//! Google Kubernetes Engine: a passthrough Network Load Balancer with a regional static address.
//! <https://cloud.google.com/kubernetes-engine/docs/concepts/service-load-balancer-parameters>

use blueprint::{GkeAddress, plan::PodPlan};

use super::{Wish, can_be_asked_for};

/// Asks for the external load balancer that is based on a backend service.
/// <https://cloud.google.com/kubernetes-engine/docs/how-to/backend-service-based-external-load-balancer>
const BACKEND_SERVICE: &str = "cloud.google.com/l4-rbs";
/// <https://cloud.google.com/kubernetes-engine/docs/how-to/internal-load-balancing>
const LOAD_BALANCER_TYPE: &str = "networking.gke.io/load-balancer-type";
const SUBNET: &str = "networking.gke.io/load-balancer-subnet";
/// Takes names of reserved addresses, not addresses, since GKE 1.29.
const ADDRESS_NAMES: &str = "networking.gke.io/load-balancer-ip-addresses";

pub(super) fn wish(reserved: Option<&GkeAddress>) -> Wish {
    let mut wish = Wish::default();
    let reserved = reserved.cloned().unwrap_or_default();
    if reserved.internal {
        wish.annotate(LOAD_BALANCER_TYPE, "Internal");
        if let Some(subnet) = reserved.subnet {
            wish.annotate(SUBNET, subnet);
        }
    } else {
        wish.annotate(BACKEND_SERVICE, "enabled");
    }
    match reserved.name {
        Some(name) => wish.annotate(ADDRESS_NAMES, name),
        None => {
            wish.load_balancer_ip = reserved.address.filter(|address| can_be_asked_for(address));
        }
    }
    wish
}

pub(super) fn look_at(pod: &PodPlan) -> String {
    let reserved = pod.reserved.gke.clone().unwrap_or_default();
    let which = reserved.name.map_or_else(
        || "`gcloud compute addresses list`".into(),
        |name| format!("`gcloud compute addresses describe {name} --region REGION`"),
    );
    format!(
        "{which} shows whether the address is in the region of the cluster, of the same network tier, and free"
    )
}
