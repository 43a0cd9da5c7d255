//! Escapes of the specification (September 2025, section 2.10.9) that the parser does not know: `\u{1F600}`, and pairs of
//! surrogates.
//!
//! They are written out before it reads the document; columns that errors name after one on the same line are those of the
//! text written out. What is no character stays as it is, and the parser refuses it.

use std::borrow::Cow;

use super::scan::strings;

/// The document with these escapes replaced by their characters. It has passed [`super::scan`].
pub fn write_out(document: &str) -> Cow<'_, str> {
    if !["\\u{", "\\ud", "\\uD"].iter().any(|escape| document.contains(escape)) {
        return Cow::Borrowed(document);
    }
    let mut text = String::with_capacity(document.len());
    let mut copied = 0;
    for string in strings(document.as_bytes()) {
        let mut at = string.start;
        while let Some(found) = document.get(at..string.end).and_then(|rest| rest.find('\\')) {
            at += found;
            let Some(escape) = document.get(at..string.end) else { break };
            let Some((character, length)) = read(escape) else {
                // Whatever it is, its second character begins no escape.
                at += 1 + escape.chars().nth(1).map_or(0, char::len_utf8);
                continue;
            };
            text.push_str(document.get(copied..at).unwrap_or_default());
            push(&mut text, character);
            at += length;
            copied = at;
        }
    }
    text.push_str(document.get(copied..).unwrap_or_default());
    Cow::Owned(text)
}

/// The character of such an escape at the beginning, and the bytes that it takes.
fn read(escape: &str) -> Option<(char, usize)> {
    let digits = escape.strip_prefix("\\u")?;
    if let Some(braced) = digits.strip_prefix('{') {
        let (digits, _) = braced.split_once('}')?;
        let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        return Some((char::from_u32(code)?, "\\u{}".len() + digits.len()));
    }
    let high = unit(digits)?;
    let low = unit(digits.get(4..)?.strip_prefix("\\u")?)?;
    let mut characters = char::decode_utf16([high, low]);
    // Two that are a character each are known to the parser.
    let pair = characters.next()?.ok().filter(|_| characters.next().is_none())?;
    Some((pair, "\\uD83D\\uDE00".len()))
}

fn unit(digits: &str) -> Option<u16> {
    let digits = digits.get(..4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}

/// As it may stand in a string.
fn push(text: &mut String, character: char) {
    match character {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        _ => text.push(character),
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{
        Value,
        parser::{parse_query, types::Selection},
    };
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_become_their_characters_in_strings_only() {
        for (document, expected) in [
            (r#"{ a(b: "\u{1F600}x") }"#, "{ a(b: \"😀x\") }"),
            (r#"{ a(b: "\ud83d\uDE00") }"#, "{ a(b: \"😀\") }"),
            (r#"{ a(b: "\u{22}\u{5c}\u{a}") }"#, r#"{ a(b: "\"\\\n") }"#),
            (r#"{ a(b: "\\u{41}") }"#, r#"{ a(b: "\\u{41}") }"#),
            (r#"{ a(b: """\u{41}""") }"#, r#"{ a(b: """\u{41}""") }"#),
            ("{ a } # \"\\u{41}\"", "{ a } # \"\\u{41}\""),
            (r#"{ a(b: "\u0041\u0042\uD83D") }"#, r#"{ a(b: "\u0041\u0042\uD83D") }"#),
        ] {
            assert_eq!(write_out(document), expected, "{document}");
        }
    }

    #[test]
    fn what_is_no_character_stays_as_it_is() {
        for bad in
            ["ud800", r"ud800\ud800", r"udc00\ud800", "u{d800}", "u{110000}", "u{}", "u{+1}", "u{1", "ud83d"]
        {
            let document = format!("{{ a(b: \"\\{bad}\") }}");
            assert_eq!(write_out(&document), document);
            assert!(parse_query(write_out(&document)).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_escaped_is_read_as_itself(text in any::<String>(), braces in any::<bool>()) {
            let escaped: Vec<String> = if braces {
                text.chars().map(|character| format!("\\u{{{:x}}}", u32::from(character))).collect()
            } else {
                text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect()
            };
            let escaped = escaped.concat();
            let document = format!("{{ a(b: \"{escaped}\") }}");
            let parsed = parse_query(write_out(&document)).expect("GraphQL");
            let (_, operation) = parsed.operations.iter().next().expect("one");
            let Selection::Field(field) = &operation.node.selection_set.node.items[0].node else {
                panic!("a field")
            };
            let (_, read) = &field.node.arguments[0];
            prop_assert_eq!(read.node.clone().into_const(), Some(Value::String(text)));
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"["\\u{}dD8 0a#é]{0,40}"#) {
            let _ = write_out(&text);
        }
    }
}
