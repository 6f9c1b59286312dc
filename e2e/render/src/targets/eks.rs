//! Amazon EKS with the AWS Load Balancer Controller: a Network Load Balancer with Elastic IP
//! addresses, or an existing one by its target group.

use blueprint::{EksAddress, plan::PodPlan};
use k8s_openapi::{
    Metadata, NamespaceResourceScope, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize};

use super::Wish;

/// Hands a Service to the controller.
/// <https://docs.aws.amazon.com/eks/latest/userguide/network-load-balancing.html>
const LOAD_BALANCER_CLASS: &str = "service.k8s.aws/nlb";
/// <https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/service/annotations/>
const TARGET_TYPE: &str = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type";
const SCHEME: &str = "service.beta.kubernetes.io/aws-load-balancer-scheme";
const ALLOCATIONS: &str = "service.beta.kubernetes.io/aws-load-balancer-eip-allocations";
const SUBNETS: &str = "service.beta.kubernetes.io/aws-load-balancer-subnets";

/// Has the controller put a Service's pods into a target group.
/// <https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/targetgroupbinding/targetgroupbinding/>
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetGroupBinding {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    spec: TargetGroupBindingSpec,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetGroupBindingSpec {
    service_ref: ServiceReference,
    #[serde(rename = "targetGroupARN")]
    target_group_arn: String,
    target_type: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct ServiceReference {
    name: String,
    port: u16,
}

impl Resource for TargetGroupBinding {
    const API_VERSION: &'static str = "elbv2.k8s.aws/v1beta1";
    const GROUP: &'static str = "elbv2.k8s.aws";
    const KIND: &'static str = "TargetGroupBinding";
    const VERSION: &'static str = "v1beta1";
    const URL_PATH_SEGMENT: &'static str = "targetgroupbindings";
    type Scope = NamespaceResourceScope;
}

impl Metadata for TargetGroupBinding {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

pub(super) fn wish(reserved: Option<&EksAddress>) -> Wish {
    let mut wish = Wish {
        load_balancer_class: Some(LOAD_BALANCER_CLASS.into()),
        ..Wish::default()
    };
    wish.annotate(TARGET_TYPE, "ip");
    wish.annotate(SCHEME, "internet-facing");
    if let Some(reserved) = reserved {
        if !reserved.allocations.is_empty() {
            wish.annotate(ALLOCATIONS, reserved.allocations.join(","));
        }
        if !reserved.subnets.is_empty() {
            wish.annotate(SUBNETS, reserved.subnets.join(","));
        }
    }
    wish
}

/// `None` where no target group was made beforehand.
pub(super) fn binding(
    pod: &PodPlan,
    reserved: &EksAddress,
    metadata: ObjectMeta,
) -> Option<TargetGroupBinding> {
    let spec = TargetGroupBindingSpec {
        service_ref: ServiceReference {
            name: pod.name.pod().into(),
            port: pod.public_port,
        },
        target_group_arn: reserved.target_group.clone()?,
        target_type: "ip".into(),
    };
    Some(TargetGroupBinding {
        api_version: TargetGroupBinding::API_VERSION.into(),
        kind: TargetGroupBinding::KIND.into(),
        metadata,
        spec,
    })
}

/// Whether this is the name that AWS gives to a load balancer.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html>
pub(super) fn is_load_balancer(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host.contains(".elb.")
        && (host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"))
}

pub(super) fn look_at(pod: &PodPlan) -> String {
    let reserved = pod.reserved.eks.clone().unwrap_or_default();
    let which = match (reserved.target_group, reserved.allocations.is_empty()) {
        (Some(arn), _) => format!(
            "`aws elbv2 describe-target-health --target-group-arn {arn}` shows what the target group holds"
        ),
        (None, false) => format!(
            "`aws ec2 describe-addresses --allocation-ids {}` shows whether the addresses are free, one for each subnet",
            reserved.allocations.join(" ")
        ),
        (None, true) => "`aws elbv2 describe-load-balancers` shows the load balancers".into(),
    };
    format!(
        "{which}, `kubectl --namespace kube-system logs deployment/aws-load-balancer-controller` what the controller did"
    )
}
