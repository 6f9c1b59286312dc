//! All tests that need no cluster: one module per blueprint, what holds for all of them, and the
//! bundles, pages and house rules.
//!
//! With `FERRY_ENVIRONMENT` set, those of blueprints under `manifests/` run on that environment.

#![allow(clippy::unwrap_used)]

mod attackers;
mod bundle;
mod clients;
mod docs;
mod environments;
mod envoy;
mod families;
mod fast_international_ferry;
mod grand_tour_ferry;
mod harbour_ferry;
mod identity;
mod international_ferry;
mod names;
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
