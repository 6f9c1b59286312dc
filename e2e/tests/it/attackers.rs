//! Attacks on a ferry's public port, each with what refuses it and where that shows. The same tables are in SECURITY.md.
//!
//! Each group is one test on one environment: its attacks run one after the other, so that each finds its own traces, and
//! all of them run, so that each failure is seen.

pub(crate) mod attack;
pub(crate) mod door;
pub(crate) mod floods;
pub(crate) mod peers;
pub(crate) mod plaintext;
pub(crate) mod speech;
pub(crate) mod strangers;
