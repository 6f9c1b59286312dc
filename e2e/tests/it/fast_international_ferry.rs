//! WebSocket from one pod in cluster A to one in cluster B.

const BLUEPRINT: &str = "fast-international-ferry";
const PATH: [(&str, &str); 2] = [("cluster-a", "initiator"), ("cluster-b", "terminator")];

e2e::blueprint_tests!(BLUEPRINT, PATH);
