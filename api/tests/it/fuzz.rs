//! A hundred thousand documents that were made by damaging good ones: each is refused or read, none stops anything.
//!
//! `CONFAB_TEST_FUZZ_CASES` sets another number, for a long run; the first hundred thousand stay the same.

#![expect(clippy::disallowed_methods, reason = "tests read the environment")]

use std::{env, sync::Arc, time::Duration};

use api::{
    coercion::coerce_variables,
    cost::cost,
    document::Documents,
    guard::{Limits, scan_json},
    parameters::Parameters,
    schema,
    typesystem::TypeSystem,
};
use domain::ErrorCode;
use tokio::time::Instant;

/// Of each kind, unless the environment says otherwise.
const CASES: u32 = 100_000;
/// The longest that one may take, on a slow machine without optimisation.
const CASE_MAX: Duration = Duration::from_secs(1);

fn cases() -> u32 {
    let given = env::var("CONFAB_TEST_FUZZ_CASES").ok();
    given.map_or(CASES, |count| count.parse().expect("CONFAB_TEST_FUZZ_CASES is a number"))
}

/// What is damaged.
const SEEDS: [&str; 9] = [
    "{ viewer { id username } }",
    "query List($n: Int = 30, $after: String) { conversations(first: $n, after: $after) { nodes { id ...C } pageInfo { endCursor } } }
        fragment C on Conversation { title lastMessage { seq content { ... on TextContent { text } } } }",
    "mutation Send($input: SendMessageInput!) { sendMessage(input: $input) { message { id seq } userErrors { code field message } } }",
    "subscription Live($after: EventCursor) { events(after: $after) { __typename ... on MessageSent { rev message { sender { id } } } } }",
    "query A { a: viewer { id } } query B @skip(if: false) { user(by: { username: \"x\" }) { displayName } }",
    "{ node(id: \"\\u{1F600}\\ud83d\\ude00\\n\") { ... on Message @include(if: true) { seq } } nodes(ids: [\"a\", \"b\"]) { id } }",
    "{ __schema { types { name fields { name args { name defaultValue } type { ...T } } } } } fragment T on __Type { kind name ofType { kind } }",
    "query($x: [[ID!]]! = [[\"a\"]], $y: Float = -1.5e+3) { nodes(ids: $x) { id } conversation(id: \"\"\"a \\\"\"\" b\"\"\") { id } }",
    "# comment\n{ ...A ...B } fragment A on Query { ...B viewer { id } } fragment B on Query { limits { idsMax } }",
];
/// What it is damaged with.
const TOKENS: [&str; 32] = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "...",
    "@",
    "$",
    "!",
    ":",
    "=",
    "|",
    "&",
    "\"",
    "\"\"\"",
    "\\",
    "\\u",
    "\\u{110000}",
    "#",
    "\n",
    "\u{feff}",
    "\0",
    "query",
    "fragment A on Query",
    "on",
    "true",
    "null",
    "-0",
    "1e999",
    "99999999999999999999",
    "\u{10FFFF}",
];

/// The same cases each time (xorshift64*, Vigna 2016).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).expect("31 bits") % bound.max(1)
    }

    fn boundary(&mut self, text: &str) -> usize {
        let mut place = self.below(text.len() + 1);
        while !text.is_char_boundary(place) {
            place -= 1;
        }
        place
    }

    fn damage(&mut self, seeds: &[&str], tokens: &[&str]) -> String {
        let mut text = seeds[self.below(seeds.len())].to_owned();
        for _ in 0..=self.below(6) {
            let (one, other) = (self.boundary(&text), self.boundary(&text));
            let (start, end) = (one.min(other), one.max(other));
            match self.below(5) {
                0 => text.insert_str(one, tokens[self.below(tokens.len())]),
                1 if start < text.len() => drop(text.remove(start)),
                2 => drop(text.drain(start..end)),
                3 => {
                    let part = text[start..end].to_owned();
                    text.insert_str(one, &part);
                }
                _ => {
                    let with = seeds[self.below(seeds.len())];
                    let (from, to) = (self.boundary(with), self.boundary(with));
                    text.insert_str(one, &with[from.min(to)..from.max(to)]);
                }
            }
        }
        text
    }
}

#[test]
fn damaged_documents_are_read_or_refused_and_nothing_else() {
    let types = Arc::new(TypeSystem::parse(&schema::sdl()).expect("the schema"));
    let documents = Documents::new(Limits::default(), types.clone(), 0, 1);
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let (cases, mut read, mut slowest) = (cases(), 0_u32, Duration::ZERO);
    for _ in 0..cases {
        let text = chance.damage(&SEEDS, &TOKENS);
        let begun = Instant::now();
        match documents.read(&text) {
            Ok(document) => {
                read += 1;
                for (_, operation) in document.parsed.operations.iter() {
                    if let Ok(variables) = coerce_variables(&types, &operation.node, <_>::default()) {
                        cost(&types, &document.parsed, &operation.node, &variables);
                    }
                }
            }
            Err(refusal) => assert!(
                matches!(refusal.code, ErrorCode::BadRequest | ErrorCode::LimitExceeded),
                "{text:?}: {refusal:?}"
            ),
        }
        slowest = slowest.max(begun.elapsed());
    }
    println!("{cases} documents, {read} of them read; the slowest took {slowest:?}");
    assert!(read > cases / 100, "damage that leaves nothing to read finds nothing");
    assert!(slowest < CASE_MAX, "{slowest:?}");
}

#[test]
fn damaged_requests_are_read_or_malformed_and_nothing_else() {
    const SEEDS: [&str; 4] = [
        r#"{"query":"{ a }","operationName":null,"variables":{"a":[1,{"b":"\u00e9\ud83d\ude00"}]},"extensions":{}}"#,
        r#"{"documentId":"sha256:ab","variables":{"x":1e308,"y":-0}}"#,
        r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ab"},"cost":true}}"#,
        r#"[{"query":"{ a }"},{"query":"{ b }"}]"#,
    ];
    const TOKENS: [&str; 14] =
        ["{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud800", "null", "1e999", "\0", "\u{10FFFF}"];
    let (limits, mut chance) = (Limits::default(), Chance(0xD1B5_4A32_D192_ED03));
    let (cases, mut read) = (cases(), 0_u32);
    for _ in 0..cases {
        let text = chance.damage(&SEEDS, &TOKENS);
        if scan_json(text.as_bytes(), &limits).is_ok() && Parameters::from_json(&text).is_ok() {
            read += 1;
        }
    }
    println!("{cases} requests, {read} of them read");
    assert!(read > cases / 100);
}
