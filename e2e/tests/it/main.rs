//! Whole ferries, each on an environment of its own: one module per blueprint, and what holds for all of them.
//!
//! With `FERRY_ENVIRONMENT` set they run on that environment instead.

#![allow(clippy::unwrap_used)]

mod attackers;
mod clients;
mod families;
mod fast_international_ferry;
mod grand_tour_ferry;
mod harbour_ferry;
mod identity;
mod international_ferry;
mod operator;
mod pinhole;
mod rotation;
mod rotation_faults;
mod rotation_idle;
mod run;
mod security;
mod thief;
mod tidy;
mod trail;
mod tunnel;
mod volume;
