//! The result of a successful check, with one row per message.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use messages::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::StoredMessage;

/// Messages that were seen to have crossed as they must, in the order the sink stored them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proof {
    pub blueprint: String,
    pub messages: Vec<Crossing>,
}

/// One message over one route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Crossing {
    pub seq: u64,
    pub id: Uuid,
    /// In travel order.
    pub route: Vec<Place>,
    /// When its first pod took it, by the clock of that pod.
    pub sent_at: Timestamp,
    /// When the sink stored it, by the clock of the sink: another clock, so the difference of the
    /// two means nothing.
    pub stored_at: Timestamp,
    /// From its gateway's taking it to the acknowledgement of all its branches, by the gateway's own clock, in microseconds;
    /// `None` where the gateway did not tell.
    #[serde(rename = "took_us", serialize_with = "microseconds")]
    pub took: Option<Duration>,
    /// Length of its payload.
    pub payload_bytes: usize,
}

/// A pod that a message went through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The (Kubernetes) pod's own name.
    pub pod: String,
    pub cluster: String,
    pub node: String,
}

impl Proof {
    /// Titles of the columns of [`Self::rows`].
    pub const COLUMNS: [&'static str; 5] = ["seq", "id", "outcome", "route", "took"];

    /// One row per message: `1`, `…3f2a9c11`, `delivered`, `gateway-1@cluster-a -> sink-1@cluster-b`, `1.2 ms`.
    pub fn rows(&self) -> Vec<[String; 5]> {
        self.messages
            .iter()
            .map(|crossing| {
                [
                    crossing.seq.to_string(),
                    short(crossing.id),
                    "delivered".into(),
                    crossing.route_text(),
                    crossing.took_text(),
                ]
            })
            .collect()
    }
}

impl Crossing {
    pub(super) fn of(stored: &StoredMessage, took: Option<Duration>) -> Self {
        let message = &stored.message;
        Self {
            seq: message.seq,
            id: message.id,
            route: message
                .trail
                .iter()
                .map(|hop| Place {
                    pod: hop.pod.clone(),
                    cluster: hop.cluster.clone(),
                    node: hop.node.clone(),
                })
                .collect(),
            sent_at: message.trail.first().map_or(stored.stored_at, |hop| hop.at),
            stored_at: stored.stored_at,
            took,
            payload_bytes: message.payload.len(),
        }
    }

    /// [`Self::took`] as `1.2 ms`, or `unknown`.
    pub fn took_text(&self) -> String {
        self.took.map_or_else(|| "unknown".into(), milliseconds)
    }

    /// `gateway-1@cluster-a -> sink-1@cluster-b`
    pub fn route_text(&self) -> String {
        let mut text = String::new();
        let places = self
            .route
            .iter()
            .map(|place| (place.pod.as_str(), place.cluster.as_str()));
        // Writing to a `String` does not fail.
        let _ = write_route(&mut text, places);
        text
    }
}

pub(super) fn write_route<'a>(
    text: &mut impl fmt::Write,
    places: impl Iterator<Item = (&'a str, &'a str)>,
) -> fmt::Result {
    for (number, (pod, cluster)) in places.enumerate() {
        let arrow = if number > 0 { " -> " } else { "" };
        write!(text, "{arrow}{pod}@{cluster}")?;
    }
    Ok(())
}

/// The last eight characters: the first ones of a UUIDv7 are a time and alike among messages of one second.
pub(super) fn short(id: Uuid) -> String {
    let text = id.simple().to_string();
    let mut short = String::from("…");
    let _ = write!(short, "{}", &text[text.len() - 8..]);
    short
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

fn microseconds<S: Serializer>(took: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
        .serialize(serializer)
}
