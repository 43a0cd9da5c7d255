//! Whatever is selected under one key of an answer can be merged into one value (GraphQL, 5.3.2).
//!
//! The specification compares each two fields and all that is below the two, which grows without bound when it is done to the letter. Here
//! an operation is written out once, to at most as many selections as the guard allows, and sorted by the *place* in the answer: the keys
//! that lead there. What can be asked of a place needs no walk:
//!
//! - All of its fields must have one shape, whatever objects they are on. That is an equivalence, so each is compared with the first.
//! - Of two fields that can be on one object, both must be the same field with the same arguments. They can be, when nowhere on the
//!   way from the root one is on one object type and the other on another: the *way* of a field is the list of these types, with
//!   none for an interface or union. Only the distinct ways of distinct fields are compared, and a place usually has one of each.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    fmt::Write,
};

use async_graphql::{
    Name, Positioned, Value,
    parser::types::{
        BaseType, ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet, Type,
    },
};

use super::Faults;
use crate::{
    refusal::Refusal,
    typesystem::{TypeSystem, base_name},
};

/// Pairs of fields that are compared for an operation. Ordinary ones need none, the worst within the guard's defaults some
/// ten thousand; this many take a millisecond.
const COMPARISONS_MAX: usize = 100_000;

/// Holds an operation against the rule. All of its fields and fragments are known to be there.
pub(super) fn check(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    types: &TypeSystem,
    faults: &mut Faults,
) {
    let Some(root) = types.root(operation.ty) else { return };
    let mut merge = Merge {
        document,
        types,
        places: Vec::new(),
        place_of: HashMap::new(),
        ways: vec![Vec::new()],
        way_of: HashMap::new(),
        meaning_of: HashMap::new(),
        meaning_of_field: HashMap::new(),
        seen: HashSet::new(),
    };
    merge.selection_set(&operation.selection_set.node, root, ROOT);
    merge.tell(faults);
}

/// Where a selection set stands: its place in the answer, and the way that leads there.
type Stand = (usize, usize);
/// Of an operation.
const ROOT: Stand = (usize::MAX, 0);

struct Merge<'a> {
    document: &'a ExecutableDocument,
    types: &'a TypeSystem,
    /// Each after the one above it.
    places: Vec<Place<'a>>,
    place_of: HashMap<(usize, &'a str), usize>,
    /// The object types on the way; `None` stands for an interface or union.
    ways: Vec<Vec<Option<&'a Name>>>,
    way_of: HashMap<(usize, Option<&'a Name>), usize>,
    /// A number for each field with its arguments.
    meaning_of: HashMap<String, usize>,
    meaning_of_field: HashMap<*const Field, usize>,
    /// Fields of the document where they have been already.
    seen: HashSet<(*const Field, Stand)>,
}

/// A value of the answer.
struct Place<'a> {
    above: usize,
    key: &'a str,
    fields: Vec<Selected<'a>>,
    /// Of the first field.
    shape: &'a Type,
    /// A field of another shape.
    misshapen: Option<(&'a Positioned<Field>, &'a Type)>,
}

/// A field that is selected there; one for each of its ways.
struct Selected<'a> {
    meaning: usize,
    way: usize,
    field: &'a Positioned<Field>,
}

/// Two fields that differ.
type Pair<'a> = (&'a Positioned<Field>, &'a Positioned<Field>);

impl<'a> Merge<'a> {
    /// The guard has bounded how deep this goes, and how much there is of it.
    fn selection_set(&mut self, set: &'a SelectionSet, parent: &'a Name, stand: Stand) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => self.field(field, parent, stand),
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref().map(|condition| &condition.node.on.node);
                    self.selection_set(&fragment.node.selection_set.node, on.unwrap_or(parent), stand);
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = self.document.fragments.get(&spread.node.fragment_name.node) {
                        let on = &fragment.node.type_condition.node.on.node;
                        self.selection_set(&fragment.node.selection_set.node, on, stand);
                    }
                }
            }
        }
    }

    fn field(&mut self, field: &'a Positioned<Field>, parent: &'a Name, (place, way): Stand) {
        let Some(definition) = self.types.selectable(parent, &field.node.name.node) else { return };
        let shape = &definition.ty.node;
        let stand = (self.place(place, field, shape), self.way(way, parent));
        if !self.seen.insert((&raw const field.node, stand)) {
            return;
        }
        let (at, way) = stand;
        let meaning = self.meaning(&field.node);
        let misshapen = self.places.get(at).is_some_and(|place| !self.same_shape(place.shape, shape));
        if let Some(place) = self.places.get_mut(at) {
            if misshapen {
                place.misshapen.get_or_insert((field, shape));
            }
            let is_known = |known: &Selected<'_>| known.meaning == meaning && known.way == way;
            // In documents that people write the last one is as good as all.
            if !place.fields.last().is_some_and(is_known) {
                place.fields.push(Selected { meaning, way, field });
            }
        }
        self.selection_set(&field.node.selection_set.node, base_name(&shape.base), stand);
    }

    fn place(&mut self, above: usize, field: &'a Positioned<Field>, shape: &'a Type) -> usize {
        let key = field.node.response_key().node.as_str();
        *self.place_of.entry((above, key)).or_insert_with(|| {
            self.places.push(Place { above, key, fields: Vec::new(), shape, misshapen: None });
            self.places.len() - 1
        })
    }

    fn way(&mut self, before: usize, parent: &'a Name) -> usize {
        let object = self.types.is_object(parent).then_some(parent);
        *self.way_of.entry((before, object)).or_insert_with(|| {
            let mut way = self.ways.get(before).cloned().unwrap_or_default();
            way.push(object);
            self.ways.push(way);
            self.ways.len() - 1
        })
    }

    fn meaning(&mut self, field: &'a Field) -> usize {
        if let Some(known) = self.meaning_of_field.get(&(&raw const *field)) {
            return *known;
        }
        let mut text = field.name.node.to_string();
        let mut arguments: Vec<_> = field.arguments.iter().collect();
        arguments.sort_unstable_by_key(|(name, _)| &name.node);
        for (name, value) in arguments {
            // A string takes everything.
            let _ = write!(text, " {}:", name.node);
            // As no value of a document is written.
            let named = |variable| Ok::<_, Infallible>(Value::Enum(Name::new(format!("${variable}"))));
            let Ok(value) = value.node.clone().into_const_with(named);
            write_value(&mut text, &value);
        }
        let next = self.meaning_of.len();
        let meaning = *self.meaning_of.entry(text).or_insert(next);
        self.meaning_of_field.insert(field, meaning);
        meaning
    }

    fn same_shape(&self, one: &Type, other: &Type) -> bool {
        one.nullable == other.nullable
            && match (&one.base, &other.base) {
                (BaseType::List(one), BaseType::List(other)) => self.same_shape(one, other),
                (BaseType::Named(one), BaseType::Named(other)) => {
                    one == other || self.types.is_composite(one) && self.types.is_composite(other)
                }
                _ => false,
            }
    }

    fn tell(self, faults: &mut Faults) {
        let mut comparisons = 0;
        let mut differs = vec![false; self.places.len()];
        for (at, place) in self.places.iter().enumerate() {
            // What is below two different fields differs, too.
            if let Some(true) = differs.get(place.above) {
                differs[at] = true;
                continue;
            }
            let different = match self.different(place, &mut comparisons) {
                Ok(different) => different,
                Err(refusal) => return faults.add(refusal),
            };
            let (one, other, why) = match (different, place.misshapen, place.fields.first()) {
                (Some((one, other)), ..) => (one, other, difference(&one.node, &other.node)),
                (None, Some((other, shape)), Some(first)) => {
                    let why = format!("they return conflicting types \"{}\" and \"{shape}\"", place.shape);
                    (first.field, other, why)
                }
                _ => continue,
            };
            differs[at] = true;
            let message = format!(
                "Fields \"{}\" conflict because {why}. Use different aliases on the fields to fetch both if this was \
                 intentional.",
                self.path(place)
            );
            faults.add(Refusal::bad_request(message).at(one.pos).at(other.pos));
            if faults.is_full() {
                return;
            }
        }
    }

    /// Two fields of a place that can be on one object and are not the same.
    fn different(&self, place: &Place<'a>, comparisons: &mut usize) -> Result<Option<Pair<'a>>, Refusal> {
        let Some(first) = place.fields.first() else { return Ok(None) };
        if place.fields.iter().all(|field| field.meaning == first.meaning) {
            return Ok(None);
        }
        let mut known = HashSet::new();
        let distinct: Vec<_> =
            place.fields.iter().filter(|field| known.insert((field.meaning, field.way))).collect();
        for (index, one) in distinct.iter().enumerate() {
            *comparisons += index;
            if *comparisons > COMPARISONS_MAX {
                let message = "too many fields of one name to find out whether they can be merged";
                return Err(Refusal::limit_exceeded(message).at(one.field.pos));
            }
            let clash =
                |other: &&&Selected<'_>| other.meaning != one.meaning && self.meet(other.way, one.way);
            if let Some(other) = distinct.iter().take(index).find(clash) {
                return Ok(Some((other.field, one.field)));
            }
        }
        Ok(None)
    }

    /// Whether one object can be at the end of both ways.
    fn meet(&self, one: usize, other: usize) -> bool {
        if one == other {
            return true;
        }
        let (Some(one), Some(other)) = (self.ways.get(one), self.ways.get(other)) else { return false };
        one.iter().zip(other).all(|step| !matches!(step, (Some(one), Some(other)) if one != other))
    }

    /// The keys that lead to a place.
    fn path(&self, place: &Place<'_>) -> String {
        let mut keys = vec![super::brief(place.key)];
        let mut above = place.above;
        while let Some(place) = self.places.get(above) {
            keys.push(super::brief(place.key));
            above = place.above;
        }
        keys.reverse();
        keys.join(".")
    }
}

fn difference(one: &Field, other: &Field) -> String {
    let (one, other) = (&one.name.node, &other.name.node);
    match one == other {
        true => "they have differing arguments".to_owned(),
        false => format!("\"{one}\" and \"{other}\" are different fields"),
    }
}

/// As text that is the same for equal values: the order of an object's fields has no meaning.
fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::List(items) => {
            text.push('[');
            for item in items {
                write_value(text, item);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in fields {
                let _ = write!(text, "{name}:");
                write_value(text, value);
                text.push(',');
            }
            text.push('}');
        }
        plain => {
            let _ = write!(text, "{plain}");
        }
    }
}

#[cfg(test)]
mod tests;
