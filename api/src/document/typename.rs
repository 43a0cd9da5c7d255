//! Directives of `__typename`, where the executor's validator sees them.
//!
//! It passes that field over, so that any directive goes and a variable that is used in one counts as unused. So
//! `__typename @skip(if: $a)` becomes `... @skip(if: $a) { __typename }`, which is the same.

use async_graphql::{
    Positioned,
    parser::types::{ExecutableDocument, Field, InlineFragment, Selection, SelectionSet},
};

use super::operations_mut;

/// Rewrites a measured document.
pub(super) fn set_directives_apart(document: &mut ExecutableDocument) {
    for operation in operations_mut(&mut document.operations) {
        selection_set(&mut operation.node.selection_set.node);
    }
    for fragment in document.fragments.values_mut() {
        selection_set(&mut fragment.node.selection_set.node);
    }
}

/// The guard has bounded how deep this goes.
fn selection_set(set: &mut SelectionSet) {
    for selection in &mut set.items {
        match &mut selection.node {
            Selection::Field(field) if field.node.name.node == *"__typename" => {
                if !field.node.directives.is_empty() {
                    selection.node = apart(field);
                }
            }
            Selection::Field(field) => selection_set(&mut field.node.selection_set.node),
            Selection::InlineFragment(fragment) => selection_set(&mut fragment.node.selection_set.node),
            Selection::FragmentSpread(_) => {}
        }
    }
}

fn apart(field: &Positioned<Field>) -> Selection {
    let mut field = field.clone();
    let position = field.pos;
    let directives = std::mem::take(&mut field.node.directives);
    let items = vec![Positioned::new(Selection::Field(field), position)];
    let selection_set = Positioned::new(SelectionSet { items }, position);
    let fragment = InlineFragment { type_condition: None, directives, selection_set };
    Selection::InlineFragment(Positioned::new(fragment, position))
}
