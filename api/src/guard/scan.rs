//! One pass over a document's bytes: its size, its tokens, its open brackets.
//!
//! It reads strings and comments as the parser does, so that no bracket can hide from it: whatever would make the two
//! disagree (a string that does not end) is refused here.

use std::ops::Range;

use super::Limits;
use crate::refusal::Refusal;

/// Refuses what the parser must not see.
pub fn scan(document: &[u8], limits: &Limits) -> Result<(), Refusal> {
    if document.len() > limits.document_bytes_max {
        let max = limits.document_bytes_max;
        return Err(Refusal::limit_exceeded(format!("the document has more than {max} bytes")));
    }
    let mut scanner = Scanner { document, at: 0 };
    let mut tokens = 0;
    let mut open = 0_usize;
    while let Some(token) = scanner.next()? {
        tokens += 1;
        if tokens > limits.document_tokens_max {
            let max = limits.document_tokens_max;
            return Err(Refusal::limit_exceeded(format!("the document has more than {max} tokens")));
        }
        match token {
            b'{' | b'[' | b'(' => open += 1,
            b'}' | b']' | b')' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > limits.document_nesting_max {
            let max = limits.document_nesting_max;
            return Err(Refusal::limit_exceeded(format!("more than {max} brackets are open at once")));
        }
    }
    Ok(())
}

/// Where the strings between single quotes are, without their quotes, up to what cannot be read.
pub(super) fn strings(document: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut scanner = Scanner { document, at: 0 };
    std::iter::from_fn(move || {
        loop {
            scanner.skip_ignored();
            let start = scanner.at;
            if scanner.next().ok()?? == b'"' && !document.get(start..)?.starts_with(b"\"\"\"") {
                return Some(start + 1..scanner.at - 1);
            }
        }
    })
}

struct Scanner<'a> {
    document: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    /// The first byte of the next token, which is passed over.
    fn next(&mut self) -> Result<Option<u8>, Refusal> {
        self.skip_ignored();
        let Some(&first) = self.document.get(self.at) else { return Ok(None) };
        match first {
            b'"' => self.string()?,
            b'.' if self.rest().starts_with(b"...") => self.at += 3,
            b'-' | b'0'..=b'9' => self.number(),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => self.skip_while(is_name_byte),
            _ => self.at += 1,
        }
        Ok(Some(first))
    }

    fn rest(&self) -> &[u8] {
        self.document.get(self.at..).unwrap_or_default()
    }

    fn skip_while(&mut self, belongs: impl Fn(u8) -> bool) {
        self.at += self.rest().iter().take_while(|byte| belongs(**byte)).count();
    }

    fn skip_ignored(&mut self) {
        loop {
            self.skip_while(|byte| matches!(byte, b' ' | b',' | b'\t' | b'\r' | b'\n'));
            if self.rest().starts_with(b"\xEF\xBB\xBF") {
                self.at += 3;
            } else if self.rest().starts_with(b"#") {
                self.skip_while(|byte| !matches!(byte, b'\r' | b'\n'));
            } else {
                return;
            }
        }
    }

    fn number(&mut self) {
        self.at += usize::from(self.rest().starts_with(b"-"));
        match self.rest() {
            // The grammar reads `00` as two numbers.
            [b'0', ..] => self.at += 1,
            [b'1'..=b'9', ..] => self.skip_while(|byte| byte.is_ascii_digit()),
            _ => return,
        }
        if let [b'.', digit, ..] = self.rest()
            && digit.is_ascii_digit()
        {
            self.at += 1;
            self.skip_while(|byte| byte.is_ascii_digit());
        }
        let exponent = match self.rest() {
            [b'e' | b'E', b'+' | b'-', digit, ..] if digit.is_ascii_digit() => 2,
            [b'e' | b'E', digit, ..] if digit.is_ascii_digit() => 1,
            _ => return,
        };
        self.at += exponent;
        self.skip_while(|byte| byte.is_ascii_digit());
    }

    fn string(&mut self) -> Result<(), Refusal> {
        if self.rest().starts_with(b"\"\"\"") {
            self.at += 3;
            return self.block_string();
        }
        self.at += 1;
        loop {
            match self.rest() {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(());
                }
                [b'\\', following, ..] if !matches!(following, b'\r' | b'\n') => self.at += 2,
                [] | [b'\\' | b'\r' | b'\n', ..] => return Err(unterminated()),
                _ => self.at += 1,
            }
        }
    }

    fn block_string(&mut self) -> Result<(), Refusal> {
        while !self.rest().starts_with(b"\"\"\"") {
            if self.rest().is_empty() {
                return Err(unterminated());
            }
            self.at += if self.rest().starts_with(b"\\\"\"\"") { 4 } else { 1 };
        }
        self.at += 3;
        Ok(())
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

fn unterminated() -> Refusal {
    Refusal::bad_request("the document has a string that does not end")
}

#[cfg(test)]
mod tests {
    use domain::ErrorCode;
    use proptest::prelude::*;

    use super::*;

    fn refused(document: &str) -> Option<ErrorCode> {
        scan(document.as_bytes(), &Limits::default()).err().map(|refusal| refusal.code)
    }

    #[test]
    fn brackets_beyond_the_bound_are_refused_however_they_are_dressed() {
        for open in ["[", "{", "(", "[ # [\n", "[\"]\"", "[\"\"\"]\"\"\"", "\u{feff}[,"] {
            assert_eq!(refused(&open.repeat(200)), Some(ErrorCode::LimitExceeded), "{open}");
        }
        assert_eq!(refused(&"[".repeat(64)), None);
        assert_eq!(refused(&"[".repeat(65)), Some(ErrorCode::LimitExceeded));
    }

    #[test]
    fn brackets_in_strings_and_comments_are_free() {
        assert_eq!(refused(&format!("{{ a(b: \"{}\") }} # {}", "[".repeat(900), "{".repeat(900))), None);
        assert_eq!(refused(&format!("{{ a(b: \"\"\"{} \\\"\"\" \"\" \"\"\") }}", "[".repeat(900))), None);
    }

    #[test]
    fn a_string_that_does_not_end_is_a_bad_request() {
        for document in ["\"", "\"\"\"", "\"\"\"\"", "\"a\nb\"", "\"\\", "\"\\\n\"", "\"\"\" \\\"\"\""] {
            assert_eq!(refused(document), Some(ErrorCode::BadRequest), "{document}");
        }
    }

    #[test]
    fn tokens_are_counted_as_the_grammar_counts_them() {
        for token in ["name ", "1.5e+3 ", "-12 ", "... ", "\"text\" ", "\"\"\"text\"\"\" ", "$", "!", "1 "] {
            assert_eq!(refused(&token.repeat(2000)), None, "{token}");
            assert_eq!(refused(&token.repeat(2001)), Some(ErrorCode::LimitExceeded), "{token}");
        }
        assert_eq!(refused(&"-1-1".repeat(1001)), Some(ErrorCode::LimitExceeded));
        assert_eq!(refused(&"0".repeat(2001)), Some(ErrorCode::LimitExceeded));
    }

    #[test]
    fn a_long_document_is_refused_by_its_length_alone() {
        assert_eq!(refused(&" ".repeat(65_536)), None);
        assert_eq!(refused(&" ".repeat(65_537)), Some(ErrorCode::LimitExceeded));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = scan(&bytes, &Limits::default());
        }

        #[test]
        fn arbitrary_punctuation_never_panics(text in "[\"\\\\\n#.{}\\[\\]()eE0-9+-]{0,300}") {
            let _ = scan(text.as_bytes(), &Limits::default());
        }
    }
}
