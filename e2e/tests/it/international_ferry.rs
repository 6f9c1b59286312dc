//! gRPC from one pod in cluster A to one in cluster B.

const BLUEPRINT: &str = "international-ferry";
const PATH: [(&str, &str); 2] = [("cluster-a", "gateway"), ("cluster-b", "sink")];

e2e::blueprint_tests!(BLUEPRINT, PATH);
