//! The examples of the specification, and documents made to take long.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use async_graphql::parser::parse_query;

use super::super::check;
use crate::{guard, typesystem::TypeSystem};

/// That of the specification's chapter 5, with what its section 5.3.2 has besides.
const SDL: &str = "
    type Query { dog: Dog pet: Pet catOrDog: CatOrDog box: SomeBox }
    enum DogCommand { SIT DOWN HEEL }
    enum CatCommand { JUMP }
    input Near { x: Int y: Int }
    interface Pet { name: String! owner: Human near(at: Near, all: [Int]): Pet }
    type Dog implements Pet {
        name: String! nickname: String barkVolume: Int owner: Human color: String tags: [String!] tag: [String]
        doesKnowCommand(dogCommand: DogCommand!): Boolean!
        isHouseTrained(atOtherHomes: Boolean): Boolean!
        near(at: Near, all: [Int]): Pet dam: Dog
    }
    type Cat implements Pet {
        name: String! nickname: String meowVolume: Int owner: Human color: Int tags: [String!]
        doesKnowCommand(catCommand: CatCommand!): Boolean!
        near(at: Near, all: [Int]): Pet dam: Cat
    }
    union CatOrDog = Cat | Dog
    type Human { name: String! alias: String pets: [Pet!] best: Pet }
    interface SomeBox { deep: SomeBox scalar: String }
    type StringBox implements SomeBox { deep: StringBox scalar: String unrelated: String }
    type IntBox implements SomeBox { deep: IntBox scalar: String other: Int unrelated: Int }
";

fn types() -> TypeSystem {
    TypeSystem::parse(SDL).expect("a schema")
}

fn faults(document: &str) -> Vec<String> {
    let faults = check(&parse_query(document).expect("GraphQL"), &types());
    faults.into_iter().map(|fault| fault.message.into_owned()).collect()
}

fn merges(document: &str) {
    assert_eq!(faults(document), Vec::<String>::new(), "{document}");
}

fn clashes(document: &str, path: &str, why: &str) {
    let expected = format!(
        "Fields \"{path}\" conflict because {why}. Use different aliases on the fields to fetch both if this was \
         intentional."
    );
    assert_eq!(faults(document), [expected], "{document}");
}

const ARGUMENTS: &str = "they have differing arguments";

#[test]
fn the_same_field_may_be_selected_again() {
    merges("{ dog { ...A } } fragment A on Dog { name name }");
    merges("{ dog { ...A } } fragment A on Dog { otherName: name otherName: name }");
    merges(
        "{ dog { ...A } } fragment A on Dog { doesKnowCommand(dogCommand: SIT) doesKnowCommand(dogCommand: SIT) }",
    );
    merges(
        "query($c: DogCommand!) { dog { doesKnowCommand(dogCommand: $c) doesKnowCommand(dogCommand: $c) } }",
    );
    merges(
        "{ pet { near(at: { x: 1, y: 2 }, all: [1]) { name } near(all: [1], at: { y: 2, x: 1 }) { name } } }",
    );
    merges("{ dog { owner { name } } dog { owner { alias } } }");
    merges("{ dog { name @skip(if: true) name @include(if: true) } }");
}

#[test]
fn two_fields_of_one_key_on_one_object_are_refused() {
    clashes("{ dog { name: nickname name } }", "dog.name", "\"nickname\" and \"name\" are different fields");
    let different = "\"dog\" and \"pet\" are different fields";
    clashes("{ a: dog { name } a: pet { name } }", "a", different);
    for (one, other) in [
        ("dogCommand: SIT", "dogCommand: HEEL"),
        ("dogCommand: SIT", "dogCommand: $c"),
        ("dogCommand: $c", "dogCommand: $d"),
        ("dogCommand: SIT", ""),
        ("dogCommand: SIT", "dogCommand: \"SIT\""),
    ] {
        let document = format!(
            "query($c: DogCommand!, $d: DogCommand!) {{ dog {{ doesKnowCommand({one}) doesKnowCommand({other}) }} }}"
        )
        .replace("()", "");
        clashes(&document, "dog.doesKnowCommand", ARGUMENTS);
    }
    clashes("{ pet { near(all: [1, 2]) { name } near(all: [2, 1]) { name } } }", "pet.near", ARGUMENTS);
}

#[test]
fn what_is_below_the_same_field_twice_is_merged_and_compared() {
    let names = "\"name\" and \"alias\" are different fields";
    for document in [
        "{ dog { owner { a: name } } dog { owner { a: alias } } }",
        "{ dog { owner { a: name } ...O } } fragment O on Dog { owner { a: alias } }",
        "{ dog { ... { owner { a: name } } } ... on Query { dog { owner { a: alias } } } }",
        "{ ...A ...B } fragment A on Query { dog { owner { a: name } } } fragment B on Query { dog { ...C } }
            fragment C on Pet { owner { a: alias } }",
    ] {
        clashes(document, "dog.owner.a", names);
    }
    clashes(
        "{ dog { owner { best { near(all: [1]) { name } } } } dog { owner { best { near(all: [2]) { name } } } } }",
        "dog.owner.best.near",
        ARGUMENTS,
    );
}

#[test]
fn objects_of_different_types_may_have_different_fields_under_one_key() {
    merges("{ pet { ... on Dog { volume: barkVolume } ... on Cat { volume: meowVolume } } }");
    merges(
        "{ pet { ... on Dog { doesKnowCommand(dogCommand: SIT) } ... on Cat { doesKnowCommand(catCommand: JUMP) } } }",
    );
    merges("{ pet { ... on Dog { dam { a: name } } ... on Cat { dam { a: name } } } }");
    // Nothing is a dog and a cat at once, so that nothing has both a name and a nickname there.
    merges("{ pet { ... on Dog { owner { a: name } } ... on Cat { owner { a: name } } } }");
    merges("{ catOrDog { ... on Dog { near(all: [1]) { name } } ... on Cat { near(all: [2]) { name } } } }");
}

#[test]
fn a_field_of_an_interface_is_compared_with_those_of_its_objects() {
    let different = "\"name\" and \"nickname\" are different fields";
    clashes("{ pet { a: name ... on Dog { a: nickname } } }", "pet.a", different);
    clashes(
        "{ pet { near(all: [1]) { name } ... on Dog { near(all: [2]) { name } } } }",
        "pet.near",
        ARGUMENTS,
    );
    // A dog's owner, once as a pet's and once as a dog's.
    clashes(
        "{ pet { owner { a: name } ... on Dog { owner { a: alias } } } }",
        "pet.owner.a",
        "\"name\" and \"alias\" are different fields",
    );
}

#[test]
fn one_key_has_one_shape_whatever_the_objects() {
    let types = |one: &str, other: &str| format!("they return conflicting types \"{one}\" and \"{other}\"");
    for (one, other, path, why) in [
        ("color", "color", "pet.color", types("String", "Int")),
        ("a: nickname", "a: name", "pet.a", types("String", "String!")),
        ("a: tags", "a: nickname", "pet.a", types("[String!]", "String")),
        ("a: owner { name }", "a: nickname", "pet.a", types("Human", "String")),
        ("a: owner { b: name }", "a: owner { b: alias }", "pet.a.b", types("String!", "String")),
        ("a: tag", "a: tags", "pet.a", types("[String]", "[String!]")),
    ] {
        let document = format!("{{ pet {{ ... on Dog {{ {one} }} ... on Cat {{ {other} }} }} }}");
        clashes(&document, path, &why);
    }
    clashes(
        "{ box { ... on StringBox { deep { unrelated } } ... on IntBox { deep { unrelated } } } }",
        "box.deep.unrelated",
        types("String", "Int").as_str(),
    );
    merges("{ box { ... on StringBox { deep { a: scalar } } ... on IntBox { deep { a: scalar } } } }");
}

#[test]
fn introspection_keeps_the_rule_too() {
    let different = "\"name\" and \"description\" are different fields";
    clashes(
        "{ __schema { types { a: name } } __schema { types { a: description } } }",
        "__schema.types.a",
        different,
    );
    clashes("{ a: __type(name: \"Dog\") { name } a: __type(name: \"Cat\") { name } }", "a", ARGUMENTS);
    merges("{ __schema { types { name } } __schema { types { kind } } }");
    clashes(
        "{ dog { name: __typename name } }",
        "dog.name",
        "\"__typename\" and \"name\" are different fields",
    );
}

#[test]
fn each_operation_is_looked_at_and_none_is_compared_with_another() {
    merges("query A { a: dog { name } } query B { a: pet { name } }");
    clashes(
        "query A { dog { name } } query B { a: dog { name } a: pet { name } }",
        "a",
        "\"dog\" and \"pet\" are different fields",
    );
}

/// Twice as many ways with each level lead to two different fields, one for dogs and one for cats.
fn never_meeting(levels: usize) -> String {
    let mut text = "{ pet { ... on Dog { near { ...D0 } } ... on Cat { near { ...C0 } } } }".to_owned();
    for (side, number) in [("D", 1), ("C", 2)] {
        for level in 0..levels {
            let below = format!("near {{ ...{side}{} }}", level + 1);
            let both = format!("... on Dog {{ {below} }} ... on Cat {{ {below} }}");
            write!(text, " fragment {side}{level} on Pet {{ {both} }}").expect("writes");
        }
        write!(text, " fragment {side}{levels} on Pet {{ a: near(all: [{number}]) {{ name }} }}")
            .expect("writes");
    }
    text
}

/// The documents that make others take the square of their length or worse, as long as the guard allows.
fn hostile() -> Vec<(&'static str, String)> {
    let many = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<String>();
    let both = |inner: &str| format!("... on Dog {{ {inner} }} ... on Cat {{ {inner} }}");
    let mut split = "name".to_owned();
    for _ in 0..5 {
        split = both(&format!("near {{ {split} }}"));
    }
    vec![
        ("one field again and again", format!("{{ {} }}", "dog { name } ".repeat(480))),
        (
            "one fragment again and again",
            format!("{{ {} }} fragment F on Query {{ dog {{ name }} }}", "...F ".repeat(480)),
        ),
        (
            "nested repetition",
            format!("{{ {} }}", format!("dog {{ {} }} ", "owner { name } ".repeat(11)).repeat(38)),
        ),
        (
            "fragments that repeat each other",
            format!(
                "{{ ...F0 }} {} fragment F8 on Query {{ dog {{ name }} }}",
                many(8, &|index| format!("fragment F{index} on Query {{ ...F{0} ...F{0} }} ", index + 1)),
            ),
        ),
        (
            "different arguments",
            format!("{{ pet {{ {} }} }}", many(180, &|index| format!("near(all: [{index}]) {{ name }} "))),
        ),
        ("types inside types", format!("{{ pet {{ {split} }} }}")),
        ("ways of two fields that never meet", never_meeting(6)),
    ]
}

#[test]
fn hostile_documents_are_decided_at_once() {
    let (types, limits) = (types(), guard::Limits::default());
    // A build without optimisation takes several times as long.
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 60 } else { 2 });
    for (name, document) in hostile() {
        guard::scan(document.as_bytes(), &limits).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
        let parsed = parse_query(&document).expect("GraphQL");
        guard::measure(&parsed, &limits).unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
        let took = (0..5).map(|_| {
            let begun = Instant::now();
            let _ = check(&parsed, &types);
            begun.elapsed()
        });
        let least = took.min().unwrap_or_default();
        println!("{name}: {} bytes, {least:?}", document.len());
        assert!(least < bound, "{name}: {least:?}");
    }
}

#[test]
fn what_would_take_too_many_comparisons_is_refused() {
    let refused = check(&parse_query(never_meeting(10)).expect("GraphQL"), &types());
    assert_eq!(refused.first().map(|refusal| refusal.code), Some(domain::ErrorCode::LimitExceeded));
}
