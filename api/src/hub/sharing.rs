//! Whether a subscription's answer is the same for every viewer: only when each of its fields is listed as shareable.

use async_graphql::{
    Positioned,
    parser::types::{BaseType, ExecutableDocument, OperationDefinition, Selection, SelectionSet, Type},
};

use crate::{document::Document, schema::shareable::is_shareable, typesystem::TypeSystem};

/// For a document that the guard has let through, so its fragments are bounded and without cycles.
pub(super) fn is_shared(document: &Document, operation: &OperationDefinition, types: &TypeSystem) -> bool {
    let look = || {
        let root = types.subscription();
        root.is_some_and(|root| set_is_shared(&document.parsed, types, root, &operation.selection_set))
    };
    if document.is_single() { *document.shared.get_or_init(look) } else { look() }
}

fn set_is_shared(
    document: &ExecutableDocument,
    types: &TypeSystem,
    type_name: &str,
    set: &Positioned<SelectionSet>,
) -> bool {
    set.node.items.iter().all(|selection| match &selection.node {
        Selection::Field(field) => {
            let name = field.node.name.node.as_str();
            is_shareable(type_name, name)
                && (field.node.selection_set.node.items.is_empty()
                    || types.field_type(type_name, name).is_some_and(|inner| {
                        set_is_shared(document, types, named(inner), &field.node.selection_set)
                    }))
        }
        Selection::InlineFragment(fragment) => {
            let condition = fragment.node.type_condition.as_ref();
            let inner = condition.map_or(type_name, |condition| condition.node.on.node.as_str());
            set_is_shared(document, types, inner, &fragment.node.selection_set)
        }
        Selection::FragmentSpread(spread) => {
            document.fragments.get(&spread.node.fragment_name.node).is_some_and(|fragment| {
                let inner = fragment.node.type_condition.node.on.node.as_str();
                set_is_shared(document, types, inner, &fragment.node.selection_set)
            })
        }
    })
}

/// The type below lists.
fn named(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(inner) => named(inner),
    }
}
