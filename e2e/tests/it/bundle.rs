//! Bundles: what is in them, and what their scripts do, run by a POSIX shell with nothing on the PATH but a few tools and a
//! `kubectl` that stands for the clusters.

mod claims;
mod contents;
mod fake;
mod keys;
mod pages;
mod scripts;
