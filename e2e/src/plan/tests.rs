use std::path::Path;

use super::*;

fn shipped(name: &str) -> Blueprint {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let path = crate::blueprint::find(&manifests, name).unwrap();
    Blueprint::load(path).unwrap()
}

fn in_pod(_: &WorkloadName) -> Sockets {
    Sockets::in_pod()
}

fn names<'a>(pods: impl IntoIterator<Item = &'a PodPlan>) -> Vec<&'a str> {
    pods.into_iter().map(|pod| pod.name.pod()).collect()
}

#[test]
fn a_sink_is_deployed_before_its_gateway() {
    let plan = Plan::of(&[shipped("international-ferry")], Ports::AsWritten, &in_pod).unwrap();
    assert_eq!(names(&plan.pods), ["sink", "gateway"]);
    assert_eq!(
        plan.stages().map(names).collect::<Vec<_>>(),
        [["sink"], ["gateway"]]
    );
    let (sink, gateway) = (&plan.pods[0], &plan.pods[1]);
    assert_eq!(sink.upstreams, [gateway.name.clone()]);
    assert_eq!(
        gateway.egress,
        [Egress {
            target: sink.name.clone(),
            protocol: Protocol::Grpc,
            listen: "127.0.0.1:18001".parse().unwrap(),
        }]
    );
    assert_eq!((gateway.auto_trigger, sink.auto_trigger), (5, 0));
    assert_eq!((gateway.public_port, sink.public_port), (30100, 30200));
    assert_eq!(
        plan.paths(&gateway.name),
        [[gateway.name.clone(), sink.name.clone()]]
    );
}
