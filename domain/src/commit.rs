//! The write path: lanes, changes, group commit.

pub struct Committers;
pub struct IdSource;
