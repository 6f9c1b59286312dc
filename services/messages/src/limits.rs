//! Limits that every pod enforces. A larger value is rejected with a reason, never truncated.

use std::time::Duration;

/// Longest payload, in bytes of its JSON text: 1 MiB.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Deepest nesting of arrays and objects in a payload: what JSON libraries read by default, so that
/// no pod passes on what the next one cannot read.
pub const MAX_PAYLOAD_DEPTH: usize = 127;

/// Most hops a trail may have when it arrives.
pub const MAX_TRAIL_HOPS: usize = 32;

/// Longest text of one field of a hop other than its signature, in bytes: the longest DNS name.
pub const MAX_FIELD_BYTES: usize = 253;

/// Longest signature of one hop, in bytes: a detached JWS with a leaf and its authority is about 2
/// KiB.
pub const MAX_SIGNATURE_BYTES: usize = 8 * 1024;

/// Longest reason of a rejection, in bytes.
pub const MAX_REASON_BYTES: usize = 1024;

/// Hops that a decoder keeps: one more than any valid trail has (an acknowledgement's includes the
/// last pod's hop). A longer trail is recognised, and costs no memory.
pub(crate) const KEPT_HOPS: usize = MAX_TRAIL_HOPS + 2;

/// Longest frame a pod reads, in bytes. Well above the largest valid message, so that a payload
/// over the limit is still decoded and rejected by name while its connection lives on; beyond this
/// the connection is closed.
pub const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// Number of unacknowledged messages on one connection, unless configured otherwise.
pub const DEFAULT_WINDOW: usize = 1024;

/// Time by which the validity of an identity begins before its minting, for peers whose clocks are
/// behind: what `step-ca` takes by default, more than SPIRE's 10 s and Linkerd's 20 s, less than
/// the 2 minutes of Istio. It covers [`MAX_CLOCK_SKEW`] with a quarter of it in reserve.
pub const BACKDATE: Duration = Duration::from_secs(60);

/// Longest difference between the clocks of two connected pods, with the default life and rotation
/// of identities: an identity of 60 s that is replaced every 10 s then has 4 s left at a peer whose
/// clock is ahead.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(45);

/// Most messages that a sink keeps unless configured otherwise.
pub const MAX_STORED_MESSAGES: u64 = 200_000;

/// Most bytes of messages that a sink keeps unless configured otherwise. The size of its disk
/// follows from it.
pub const MAX_STORED_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Bytes of unacknowledged messages on one connection: limits a window of large messages. 64 MiB.
pub const MAX_WINDOW_BYTES: usize = 64 * 1024 * 1024;
