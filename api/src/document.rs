//! Documents as both edges and the hub use them: guarded, parsed, with one root field in each subscription.
//!
//! Clients send the same few documents again and again, so that each is read once and kept for a while.

mod subscription_root;
mod typename;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use async_graphql::{
    Name, Positioned,
    parser::{
        parse_query,
        types::{DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection},
    },
};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::{
    guard::{self, Limits},
    refusal::Refusal,
    rules,
    typesystem::TypeSystem,
};

/// A document that may be validated and run.
#[derive(Debug)]
pub struct Document {
    source: Box<str>,
    pub parsed: ExecutableDocument,
    /// Names the source text; nobody can make another text of the same hash.
    pub hash: u128,
    /// What [`rules`] say is wrong with it; it runs only when that is nothing.
    pub faults: Vec<Refusal>,
    valid: AtomicBool,
    /// What its only operation costs, once that is known and does not depend on variables.
    pub fixed_cost: OnceLock<u64>,
    /// Whether its only operation, a subscription, tells every viewer the same, once that is known.
    pub shared: OnceLock<bool>,
}

impl Document {
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it is known to keep the rules of the schema, so that they need not be looked at again. What variables have to keep is looked
    /// at each time, before it runs.
    pub fn is_valid(&self) -> bool {
        self.valid.load(Ordering::Relaxed)
    }

    pub fn set_valid(&self) {
        self.valid.store(true, Ordering::Relaxed);
    }

    /// The operation that a name picks, or the only one.
    pub fn operation(
        &self,
        name: Option<&str>,
    ) -> Result<(Option<&Name>, &Positioned<OperationDefinition>), Refusal> {
        let mut operations = self.parsed.operations.iter();
        match (name, operations.len()) {
            (None, 1) => operations.next().ok_or_else(|| Refusal::bad_request("there is no operation")),
            (None, _) => Err(Refusal::bad_request("the document has several operations: name one")),
            (Some(name), _) => operations
                .find(|(known, _)| known.is_some_and(|known| known.as_str() == name))
                .ok_or_else(|| Refusal::bad_request("the document has no operation of this name")),
        }
    }

    /// Whether it has one operation alone, of which something may be kept with the document.
    pub fn is_single(&self) -> bool {
        self.parsed.operations.iter().len() == 1
    }

    /// Whether an operation has a certain field at its root, through fragments too.
    pub fn has_root_field(&self, operation: &OperationDefinition, field: &str) -> bool {
        let mut sets = vec![&operation.selection_set.node];
        while let Some(set) = sets.pop() {
            for selection in &set.items {
                match &selection.node {
                    Selection::Field(found) if found.node.name.node == *field => return true,
                    Selection::Field(_) => {}
                    Selection::InlineFragment(fragment) => sets.push(&fragment.node.selection_set.node),
                    Selection::FragmentSpread(spread) => {
                        let fragment = self.parsed.fragments.get(&spread.node.fragment_name.node);
                        sets.extend(fragment.map(|fragment| &fragment.node.selection_set.node));
                    }
                }
            }
        }
        false
    }
}

/// Reads documents, and keeps those that were fit to run.
#[derive(Debug)]
pub struct Documents {
    limits: Limits,
    types: Arc<TypeSystem>,
    /// By a fast hash of the source, which is compared.
    known: Cache<u128, Arc<Document>>,
    seed: u64,
}

impl Documents {
    /// `cached_bytes_max` bounds the sources of kept documents, whose trees are about ten times as large. `seed` should
    /// be random, so that nobody can make documents that evict each other.
    pub fn new(limits: Limits, types: Arc<TypeSystem>, cached_bytes_max: u64, seed: u64) -> Self {
        let known = Cache::builder()
            .max_capacity(cached_bytes_max)
            .weigher(|_, document: &Arc<Document>| {
                u32::try_from(document.source.len().saturating_add(256)).unwrap_or(u32::MAX)
            })
            .build();
        Self { limits, types, known, seed }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn types(&self) -> &Arc<TypeSystem> {
        &self.types
    }

    pub fn read(&self, source: &str) -> Result<Arc<Document>, Refusal> {
        let key = xxh3_128_with_seed(source.as_bytes(), self.seed);
        if let Some(known) = self.known.get(&key)
            && *known.source == *source
        {
            return Ok(known);
        }
        let document = Arc::new(self.parse(source)?);
        self.known.insert(key, Arc::clone(&document));
        Ok(document)
    }

    fn parse(&self, source: &str) -> Result<Document, Refusal> {
        guard::scan(source.as_bytes(), &self.limits)?;
        let mut parsed = parse_query(guard::write_out(source)).map_err(|error| syntax_error(&error))?;
        guard::measure(&parsed, &self.limits)?;
        typename::set_directives_apart(&mut parsed);
        if let Some(root) = self.types.subscription() {
            subscription_root::flatten(&mut parsed, root)?;
        }
        let faults = rules::check(&parsed, &self.types);
        Ok(Document {
            source: source.into(),
            parsed,
            hash: hash(source),
            faults,
            valid: AtomicBool::new(false),
            fixed_cost: OnceLock::new(),
            shared: OnceLock::new(),
        })
    }
}

/// What an operation is, for edges that allow some kinds only.
pub fn kind_name(kind: OperationType) -> &'static str {
    match kind {
        OperationType::Query => "query",
        OperationType::Mutation => "mutation",
        OperationType::Subscription => "subscription",
    }
}

/// The operations of a document, to be changed.
fn operations_mut(
    operations: &mut DocumentOperations,
) -> Box<dyn Iterator<Item = &mut Positioned<OperationDefinition>> + '_> {
    match operations {
        DocumentOperations::Single(operation) => Box::new(std::iter::once(operation)),
        DocumentOperations::Multiple(operations) => Box::new(operations.values_mut()),
    }
}

fn hash(source: &str) -> u128 {
    let digest = Sha256::digest(source.as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(half)
}

/// The parser's own text names its grammar's rules; the place is what helps.
fn syntax_error(error: &async_graphql::parser::Error) -> Refusal {
    use async_graphql::parser::Error;
    let message = match error {
        Error::MultipleRoots { .. } => "the document defines a root type twice",
        Error::MultipleOperations { .. } => "an operation without a name must be the only one",
        Error::OperationDuplicated { .. } => "two operations have the same name",
        Error::FragmentDuplicated { .. } => "two fragments have the same name",
        Error::MissingOperation => "the document has no operation",
        Error::RecursionLimitExceeded => return Refusal::limit_exceeded("the document nests too deep"),
        _ => "syntax error: the document is not GraphQL from here on",
    };
    error.positions().fold(Refusal::bad_request(message), Refusal::at)
}
