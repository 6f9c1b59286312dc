//! Writes the providers' commands that reserve, show and release a blueprint's addresses, for
//! an operator to review and run. Unset variables stop the shell.

use blueprint::{
    AksAddress, EksAddress, GenericAddress, GkeAddress, Target,
    failure::Failure,
    plan::{INGRESS_PORT, Plan, PodPlan},
};

/// Commands for one pod.
#[derive(Debug, Default)]
struct Commands {
    reserve: Vec<String>,
    show: Vec<String>,
    release: Vec<String>,
    /// What to write under `targets` in the blueprint afterwards; empty where it is written.
    record: String,
}

type LinesOf = fn(&Commands) -> &[String];

/// A shell script in three parts, for every pod that other pods send to.
///
/// # Errors
///
/// A [`Failure::usage`] for clusters of this machine, which have no addresses to reserve.
pub fn commands(plan: &Plan, target: Target) -> anyhow::Result<String> {
    let parts: Vec<(&PodPlan, Commands)> = plan
        .pods
        .iter()
        .filter(|pod| !pod.upstreams.is_empty())
        .map(|pod| Some((pod, of_pod(pod, target)?)))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            Failure::usage("clusters of this machine need no reserved addresses")
                .hint("pass another target: gke, eks, aks or generic")
        })?;
    let mut text = String::new();
    let titles: [(&str, LinesOf); 3] = [
        ("Reserve", |commands| &commands.reserve),
        ("Show", |commands| &commands.show),
        ("Release, when nothing uses it any more", |commands| {
            &commands.release
        }),
    ];
    for (title, lines) in titles {
        text.push_str(&format!("# {title}\n"));
        for (pod, commands) in &parts {
            text.push_str(&format!("# {} in {}\n", pod.name.pod(), pod.name.cluster()));
            for line in lines(commands) {
                text.push_str(line);
                text.push('\n');
            }
        }
        text.push('\n');
    }
    let records: Vec<_> = parts
        .iter()
        .map(|(_, commands)| &commands.record)
        .filter(|record| !record.is_empty())
        .collect();
    if !records.is_empty() {
        text.push_str(&format!(
            "# In the blueprint, with the values that were shown:\n# targets:\n#   {target}:\n"
        ));
        for record in records {
            text.push_str(&format!("#     - {record}\n"));
        }
    }
    Ok(text.trim_end().to_owned() + "\n")
}

/// `None` where the target has no addresses to reserve.
fn of_pod(pod: &PodPlan, target: Target) -> Option<Commands> {
    let reserved = &pod.reserved;
    Some(match target {
        Target::K3d => return None,
        Target::Gke => gke(pod, reserved.gke.as_ref()),
        Target::Eks => eks(pod, reserved.eks.as_ref()),
        Target::Aks => aks(pod, reserved.aks.as_ref()),
        Target::Generic => generic(pod, reserved.generic.as_ref()),
    })
}

/// A name for what is reserved, where the blueprint has none.
fn own_name(pod: &PodPlan) -> String {
    format!("{}-{}", pod.name.blueprint(), pod.name.pod())
}

/// A value of the blueprint, or a variable that must be set.
fn or_variable(value: Option<&str>, variable: &str, what: &str) -> String {
    match value {
        Some(value) => format!("'{value}'"),
        None => format!("\"${{{variable}:?set it to {what}}}\""),
    }
}

/// <https://cloud.google.com/sdk/gcloud/reference/compute/addresses/create>
fn gke(pod: &PodPlan, reserved: Option<&GkeAddress>) -> Commands {
    let given = reserved.cloned().unwrap_or_default();
    let name = given.name.clone().unwrap_or_else(|| own_name(pod));
    let region = or_variable(
        given.region.as_deref(),
        "REGION",
        &format!("the region of {}", pod.name.cluster()),
    );
    let mut create = format!("gcloud compute addresses create '{name}' --region {region}");
    if given.internal {
        create += &format!(
            " --subnet {}",
            or_variable(
                given.subnet.as_deref(),
                "SUBNET",
                "the subnet of the cluster"
            )
        );
    }
    if let (true, Some(address)) = (given.internal, &given.address) {
        create += &format!(" --addresses '{address}'");
    }
    Commands {
        reserve: vec![create],
        show: vec![format!(
            "gcloud compute addresses describe '{name}' --region {region} --format 'value(address)'"
        )],
        release: vec![format!(
            "gcloud compute addresses delete '{name}' --region {region} --quiet"
        )],
        record: match reserved {
            Some(given) if given.address.is_some() => String::new(),
            _ => format!(
                "{{pod: {}, name: {name}, address: ADDRESS}}",
                pod.name.pod()
            ),
        },
    }
}

fn eks(pod: &PodPlan, reserved: Option<&EksAddress>) -> Commands {
    match reserved {
        Some(given) if given.target_group.is_some() => target_group(pod, given),
        other => elastic_addresses(pod, other),
    }
}

/// One for each subnet, and so for each zone, of the load balancer.
/// <https://docs.aws.amazon.com/cli/latest/reference/ec2/allocate-address.html>
fn elastic_addresses(pod: &PodPlan, reserved: Option<&EksAddress>) -> Commands {
    let given = reserved.cloned().unwrap_or_default();
    let region = or_variable(
        given.region.as_deref(),
        "AWS_REGION",
        &format!("the region of {}", pod.name.cluster()),
    );
    let name = own_name(pod);
    let (which, ids) = if given.allocations.is_empty() {
        let ids = or_variable(None, "ALLOCATION", "an allocation id that was shown");
        (
            format!("--filters 'Name=tag:Name,Values={name}'"),
            vec![ids],
        )
    } else {
        let ids: Vec<_> = given
            .allocations
            .iter()
            .map(|id| format!("'{id}'"))
            .collect();
        (format!("--allocation-ids {}", ids.join(" ")), ids)
    };
    Commands {
        reserve: vec![
            "# once for each subnet of the load balancer".into(),
            format!(
                "aws ec2 allocate-address --region {region} --domain vpc --tag-specifications 'ResourceType=elastic-ip,Tags=[{{Key=Name,Value={name}}}]'"
            ),
        ],
        show: vec![format!(
            "aws ec2 describe-addresses --region {region} {which} --query 'Addresses[].[AllocationId,PublicIp]' --output text"
        )],
        release: ids
            .iter()
            .map(|id| format!("aws ec2 release-address --region {region} --allocation-id {id}"))
            .collect(),
        record: match reserved {
            Some(given) if given.address.is_some() => String::new(),
            _ => format!(
                "{{pod: {}, allocations: [ALLOCATION, …], address: ADDRESS}}",
                pod.name.pod()
            ),
        },
    }
}

/// <https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/use_cases/self_managed_lb/>
fn target_group(pod: &PodPlan, given: &EksAddress) -> Commands {
    let region = or_variable(
        given.region.as_deref(),
        "AWS_REGION",
        &format!("the region of {}", pod.name.cluster()),
    );
    let name = own_name(pod);
    let group = or_variable(
        given.target_group.as_deref(),
        "TARGET_GROUP",
        "the ARN of the target group",
    );
    let balancer = or_variable(
        None,
        "LOAD_BALANCER",
        "the ARN of the load balancer that was shown",
    );
    let vpc = or_variable(None, "VPC", &format!("the VPC of {}", pod.name.cluster()));
    Commands {
        reserve: vec![
            // A name of AWS has at most 32 characters.
            format!(
                "aws elbv2 create-load-balancer --region {region} --name '{name:.32}' --type network --subnets {}",
                or_variable(None, "SUBNET", "a public subnet of the VPC")
            ),
            format!(
                "aws elbv2 create-target-group --region {region} --name '{name:.32}' --protocol TCP --port {INGRESS_PORT} --target-type ip --vpc-id {vpc}"
            ),
            format!(
                "aws elbv2 create-listener --region {region} --load-balancer-arn {balancer} --protocol TCP --port {} --default-actions Type=forward,TargetGroupArn={group}",
                pod.public_port
            ),
        ],
        show: vec![format!(
            "aws elbv2 describe-load-balancers --region {region} --names '{name:.32}' --query 'LoadBalancers[].[LoadBalancerArn,DNSName]' --output text"
        )],
        release: vec![
            format!(
                "aws elbv2 delete-load-balancer --region {region} --load-balancer-arn {balancer}"
            ),
            format!("aws elbv2 delete-target-group --region {region} --target-group-arn {group}"),
        ],
        record: String::new(),
    }
}

/// <https://learn.microsoft.com/azure/aks/static-ip>
fn aks(pod: &PodPlan, reserved: Option<&AksAddress>) -> Commands {
    let given = reserved.cloned().unwrap_or_default();
    let group = or_variable(
        given.resource_group.as_deref(),
        "RESOURCE_GROUP",
        "the resource group of the address",
    );
    if given.internal {
        let subnet = or_variable(
            given.subnet.as_deref(),
            "SUBNET",
            "the subnet of the cluster",
        );
        let network = or_variable(None, "VNET", "the virtual network of the cluster");
        return Commands {
            reserve: vec!["# an internal address is not reserved; take one that is free".into()],
            show: vec![format!(
                "az network vnet subnet list-available-ips --resource-group {group} --vnet-name {network} --name {subnet}"
            )],
            release: vec!["# it is free again when the Service is gone".into()],
            record: String::new(),
        };
    }
    let name = given.name.clone().unwrap_or_else(|| own_name(pod));
    let which = format!("--resource-group {group} --name '{name}'");
    Commands {
        reserve: vec![format!(
            "az network public-ip create {which} --sku Standard --allocation-method Static"
        )],
        show: vec![format!(
            "az network public-ip show {which} --query ipAddress --output tsv"
        )],
        release: vec![format!("az network public-ip delete {which}")],
        record: match reserved {
            Some(given) if given.address.is_some() => String::new(),
            _ => format!(
                "{{pod: {}, name: {name}, resource-group: GROUP, address: ADDRESS}}",
                pod.name.pod()
            ),
        },
    }
}

fn generic(pod: &PodPlan, reserved: Option<&GenericAddress>) -> Commands {
    let metallb = reserved.is_some_and(|reserved| reserved.metallb);
    let show = if metallb {
        "kubectl get ipaddresspools.metallb.io --all-namespaces --output yaml".to_owned()
    } else {
        format!(
            "kubectl --namespace '{}' get service '{}' --output wide",
            pod.name.namespace(),
            pod.name.pod()
        )
    };
    let record = format!("{{pod: {}, address: ADDRESS}}", pod.name.pod());
    Commands {
        reserve: vec!["# take an address that the load balancers of the cluster may give, and keep others from it".into()],
        show: vec![show],
        release: vec!["# it is free again when the Service is gone".into()],
        record: if reserved.is_some() { String::new() } else { record },
    }
}
