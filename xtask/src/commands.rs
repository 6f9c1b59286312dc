//! One file per command: arguments, a call of the harness, its result on the screen.

pub(crate) mod addresses;
pub(crate) mod bench;
pub(crate) mod bundle;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod e2e;
pub(crate) mod identity;
pub(crate) mod image;
pub(crate) mod local_down;
pub(crate) mod local_up;
pub(crate) mod logs;
pub(crate) mod new;
pub(crate) mod render;
pub(crate) mod status;
pub(crate) mod sweep;
pub(crate) mod trail;
pub(crate) mod trigger;
pub(crate) mod undeploy;
