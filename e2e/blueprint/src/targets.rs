//! Addresses reserved for a pod's load balancer before deployment, by platform.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::Serialize;

/// What manifests are rendered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Clusters of this machine; no address is reserved.
    K3d,
    Gke,
    Eks,
    Aks,
    /// Any other cluster whose load balancers take an address.
    Generic,
}

/// A text that names no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no target; use one of k3d, gke, eks, aks, generic")]
pub struct UnknownTarget(String);

impl Target {
    pub const ALL: [Self; 5] = [Self::K3d, Self::Gke, Self::Eks, Self::Aks, Self::Generic];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::K3d => "k3d",
            Self::Gke => "gke",
            Self::Eks => "eks",
            Self::Aks => "aks",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|target| target.as_str() == text);
        found.ok_or_else(|| UnknownTarget(text.to_owned()))
    }
}

/// What was reserved beforehand, so that a pod's peers know where it will be before it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct Targets {
    /// Google Kubernetes Engine: regional static addresses.
    #[schemars(default, skip_serializing_if = "Vec::is_empty")]
    pub gke: Vec<GkeAddress>,
    /// Amazon Elastic Kubernetes Service with the AWS Load Balancer Controller.
    #[schemars(default, skip_serializing_if = "Vec::is_empty")]
    pub eks: Vec<EksAddress>,
    /// Azure Kubernetes Service: static addresses.
    #[schemars(default, skip_serializing_if = "Vec::is_empty")]
    pub aks: Vec<AksAddress>,
    /// Any other cluster.
    #[schemars(default, skip_serializing_if = "Vec::is_empty")]
    pub generic: Vec<GenericAddress>,
}

/// A regional static address of Google Cloud. `name` or `address` is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct GkeAddress {
    /// The pod whose load balancer gets it.
    pub pod: String,
    /// Name of the reserved address.
    #[schemars(default, skip_serializing_if = "Option::is_none", with = "String")]
    pub name: Option<String>,
    /// The address itself: peers dial it.
    #[schemars(default, skip_serializing_if = "Option::is_none", with = "String")]
    pub address: Option<String>,
    /// Whether it is reachable from the own network only.
    #[schemars(default)]
    pub internal: bool,
    /// Subnet of an internal address, where it is not the cluster's.
    #[schemars(default, skip_serializing_if = "Option::is_none", with = "String")]
    pub subnet: Option<String>,
    /// Region of the address; for the commands that reserve it.
    #[schemars(default, skip_serializing_if = "Option::is_none", with = "String")]
    pub region: Option<String>,
}

/// A Network Load Balancer of AWS: Elastic IP addresses for a new one, or one that is there, by its target group.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct EksAddress {
    /// The pod whose load balancer gets it.
    pub pod: String,
    /// Allocation ids of Elastic IP addresses, one for each subnet of the load balancer.
    #[schemars(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<String>,
    /// Subnets of the load balancer, one for each allocation, in the same order; found by their tags unless given.
    #[schemars(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<String>,
    /// ARN of the target group of a load balancer made beforehand.
    #[schemars(
        default,
        rename = "target-group",
        skip_serializing_if = "Option::is_none",
        with = "String"
    )]
    pub target_group: Option<String>,
    /// One of the Elastic IP addresses, or the host name of the load balancer: peers dial it.
    #[schemars(default, skip_serializing_if = "Option::is_none", with = "String")]
    pub address: Option<String>,
    /// Region of the addresses; for the commands that reserve them.
    #[schemars(default, skip_serializing_if = "Option::is_none", with = "String")]
    pub region: Option<String>,
}

/// A static address of Azure: public by its `name`, or internal by its `address`.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct AksAddress {
    /// The pod whose load balancer gets it.
    pub pod: String,
    /// Name of the public address.
    #[schemars(default, skip_serializing_if = "Option::is_none", with = "String")]
    pub name: Option<String>,
    /// Resource group of the public address, where it is not the one of the cluster's nodes.
    #[schemars(
        default,
        rename = "resource-group",
        skip_serializing_if = "Option::is_none",
        with = "String"
    )]
    pub resource_group: Option<String>,
    /// The address itself: peers dial it.
    #[schemars(default, skip_serializing_if = "Option::is_none", with = "String")]
    pub address: Option<String>,
    /// Whether it is reachable from the own network only.
    #[schemars(default)]
    pub internal: bool,
    /// Subnet of an internal address, where it is not the cluster's.
    #[schemars(default, skip_serializing_if = "Option::is_none", with = "String")]
    pub subnet: Option<String>,
}

/// An address that a load balancer is asked for by the Service itself, or by MetalLB's annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize)]
#[schemars(deny_unknown_fields)]
pub struct GenericAddress {
    /// The pod whose load balancer gets it.
    pub pod: String,
    /// The address: peers dial it.
    pub address: String,
    /// Class of the load balancer, where the cluster has several.
    #[schemars(default, skip_serializing_if = "Option::is_none", with = "String")]
    pub class: Option<String>,
    /// Whether the load balancer is MetalLB.
    #[schemars(default)]
    pub metallb: bool,
}

/// What was reserved for one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    pub gke: Option<GkeAddress>,
    pub eks: Option<EksAddress>,
    pub aks: Option<AksAddress>,
    pub generic: Option<GenericAddress>,
}

impl Targets {
    /// Nothing is reserved.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What was reserved for a pod.
    pub fn of(&self, pod: &str) -> Reserved {
        Reserved {
            gke: self.gke.iter().find(|found| found.pod == pod).cloned(),
            eks: self.eks.iter().find(|found| found.pod == pod).cloned(),
            aks: self.aks.iter().find(|found| found.pod == pod).cloned(),
            generic: self.generic.iter().find(|found| found.pod == pod).cloned(),
        }
    }
}

impl Reserved {
    /// The address that peers dial: an IP address or a host name. `None` where it is not known before it is there.
    pub fn address(&self, target: Target) -> Option<&str> {
        match target {
            Target::K3d => None,
            Target::Gke => self.gke.as_ref()?.address.as_deref(),
            Target::Eks => self.eks.as_ref()?.address.as_deref(),
            Target::Aks => self.aks.as_ref()?.address.as_deref(),
            Target::Generic => Some(&self.generic.as_ref()?.address),
        }
    }

    /// Another address than the one that is written down, for the command line's; what else was reserved stays.
    pub fn set_address(&mut self, target: Target, pod: &str, address: &str) {
        let (pod, address) = (pod.to_owned(), address.to_owned());
        match target {
            Target::K3d => {}
            Target::Gke => {
                let gke = self.gke.get_or_insert_default();
                (gke.pod, gke.address) = (pod, Some(address));
            }
            Target::Eks => {
                let eks = self.eks.get_or_insert_default();
                (eks.pod, eks.address) = (pod, Some(address));
            }
            Target::Aks => {
                let aks = self.aks.get_or_insert_default();
                (aks.pod, aks.address) = (pod, Some(address));
            }
            Target::Generic => {
                let generic = self.generic.get_or_insert_default();
                (generic.pod, generic.address) = (pod, address);
            }
        }
    }
}
