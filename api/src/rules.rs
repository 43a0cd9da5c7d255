//! Rules of a document that the executor's validator does not hold, or holds at a price (GraphQL, chapter 5).
//!
//! It compares fields of one response key within one selection set only, does not look at `__typename`, and tells of every fault at length:
//! two thousand unknown fields are 300 kB and 10 ms. So [`check`] goes first, once for a document: `fields` are there and their
//! fragments too, and what they select under one key can be merged (`merge`). The validator holds the rest, and sees
//! documents only that have passed here.

mod fields;
mod merge;
mod suggestion;

use async_graphql::parser::types::{ExecutableDocument, OperationDefinition};

use crate::{refusal::Refusal, typesystem::TypeSystem};

/// Faults of a document that are told. Whoever writes one by hand mends the first few and asks again.
pub const FAULTS_MAX: usize = 20;

/// What is wrong with a measured document; at most [`FAULTS_MAX`], and a last one that says that there are more.
pub fn check(document: &ExecutableDocument, types: &TypeSystem) -> Vec<Refusal> {
    let mut faults = Faults(Vec::new());
    fields::check(document, types, &mut faults);
    // Of what is not there nobody can say whether it can be merged.
    if faults.0.is_empty() {
        for operation in operations(document) {
            merge::check(document, operation, types, &mut faults);
        }
    }
    faults.0
}

/// As they are written.
fn operations(document: &ExecutableDocument) -> impl Iterator<Item = &OperationDefinition> {
    let mut operations: Vec<_> = document.operations.iter().map(|(_, operation)| operation).collect();
    operations.sort_unstable_by_key(|operation| operation.pos);
    operations.into_iter().map(|operation| &operation.node)
}

/// What is said after the last fault that is told.
pub fn more_faults() -> Refusal {
    Refusal::bad_request("there are more errors: these are the first")
}

/// What was found so far.
struct Faults(Vec<Refusal>);

impl Faults {
    fn add(&mut self, fault: Refusal) {
        match self.0.len() {
            ..FAULTS_MAX => self.0.push(fault),
            FAULTS_MAX => self.0.push(more_faults()),
            _ => {}
        }
    }

    /// Whether there is no use in looking for more.
    const fn is_full(&self) -> bool {
        self.0.len() > FAULTS_MAX
    }
}

/// Enough of a name that a client sent to recognise it.
fn brief(name: &str) -> &str {
    name.get(..64).unwrap_or(name)
}
