//! What a document and its variables may cost, checked in linear time before anything recursive sees them.
//!
//! The parser and the validator recurse: 4 KB of nested brackets end the process, and 800 bytes of fragments that
//! spread each other twice keep a core busy for seconds. So, on both edges: [`scan`] the raw text, [`write_out`] the escapes
//! that the parser does not know, parse, [`measure`] the tree; and [`scan_json`] before variables are read. Not here: what an
//! operation costs by its meaning (page sizes), which is [`crate::cost`].

mod escapes;
mod json;
mod measure;
mod scan;

pub use escapes::write_out;
pub use json::scan_json;
pub use measure::measure;
pub use scan::scan;

/// Bounds on what a client may ask in one request. Beyond any of them it is `LIMIT_EXCEEDED`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a document.
    pub document_bytes_max: usize,
    /// Lexical tokens of a document, comments left out.
    pub document_tokens_max: usize,
    /// Brackets open at once in a document, of all three kinds together.
    pub document_nesting_max: usize,
    /// Fields below each other, the root field being the first. What is below `__schema` and `__type` is free.
    pub depth_max: usize,
    /// Selection sets and fragments inside each other, introspection included.
    pub selection_nesting_max: usize,
    /// Lists of fields or of types inside each other below `__schema` and `__type`; each multiplies the answer.
    pub introspection_lists_max: usize,
    /// Selections of all operations with every fragment written out.
    pub selections_max: usize,
    /// Fragment definitions of a document.
    pub fragments_max: usize,
    /// Operations of a document.
    pub operations_max: usize,
    /// Aliases in a document.
    pub aliases_max: usize,
    /// Directives in a document.
    pub directives_max: usize,
    /// Directives in one place.
    pub directives_per_place_max: usize,
    /// Arrays and objects inside each other in a JSON body, its envelope included.
    pub json_nesting_max: usize,
    /// Values in a JSON body.
    pub json_values_max: usize,
    /// What an operation may cost, as [`crate::cost`] counts it.
    pub cost_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes_max: 64 * 1024,
            document_tokens_max: 2000,
            document_nesting_max: 64,
            depth_max: 12,
            selection_nesting_max: 30,
            introspection_lists_max: 2,
            selections_max: 2000,
            fragments_max: 100,
            operations_max: 32,
            aliases_max: 50,
            directives_max: 50,
            directives_per_place_max: 5,
            json_nesting_max: 32,
            json_values_max: 20_000,
            cost_max: 10_000,
        }
    }
}
