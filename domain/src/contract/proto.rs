//! Generated from `domain/proto` by the build script.

#![allow(
    clippy::pedantic,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::derive_partial_eq_without_eq,
    reason = "generated"
)]

include!(concat!(env!("OUT_DIR"), "/confab.v1.rs"));

/// All protos with their comments, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
