//! Messages, their hops, and acknowledgements.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Payload, Role, Timestamp};

/// What travels from a gateway to a sink.
///
/// `{"id": UUIDv7, "blueprint": TEXT, "seq": 1.., "payload": JSON, "trail": [Hop]}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// UUIDv7 (RFC 9562), given by the gateway. The sink recognises repeats by it.
    pub id: Uuid,
    /// Name of the blueprint the message belongs to.
    pub blueprint: String,
    /// 1, 2, 3 … in the order the gateway made them since it started.
    pub seq: u64,
    pub payload: Payload,
    /// One entry per pod, in travel order. Each pod adds its entry before it passes the message on.
    #[serde(default)]
    pub trail: Vec<Hop>,
}

/// One pod's entry on a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Name of the Kubernetes pod.
    pub pod: String,
    pub role: Role,
    pub cluster: String,
    pub namespace: String,
    /// The Kubernetes node, or the machine's host name without a cluster.
    pub node: String,
    /// When the pod took the message.
    pub at: Timestamp,
    /// Detached JWS (RFC 7515) over the message's id, this hop and the trail before it; empty only
    /// while it is being made.
    pub signature: String,
}

/// The answer of the far end, passed back hop by hop.
///
/// `{"id": UUIDv7, "outcome": "delivered", "trail": [Hop]}` or
/// `{"id": UUIDv7, "outcome": "rejected", "reason": TEXT, "trail": [Hop]}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    pub id: Uuid,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The whole trail, up to the pod that made this acknowledgement.
    #[serde(default)]
    pub trail: Vec<Hop>,
}

/// How a message ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// The sink has stored it.
    Delivered,
    /// A pod refused it, with a reason. It is not sent again.
    Rejected { reason: String },
}

impl Outcome {
    /// Returns true if the sink has stored the message.
    pub const fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered)
    }
}
