//! What each command does, one module each.

pub mod bench;
pub mod bundle;
pub mod choice;
pub mod doctor;
pub mod faults;
pub mod lifecycle;
pub mod local;
pub mod report;
pub mod rotate;
pub mod run;
pub mod scaffold;
pub mod sweep;
