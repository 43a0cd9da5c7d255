//! One pass over a JSON text before it is read: how deep and how many.

use super::Limits;
use crate::refusal::Refusal;

/// Refuses JSON that nests too deep or holds too many values. Malformed JSON is for its parser to refuse.
pub fn scan_json(text: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let mut open = 0_usize;
    let mut values = 1_usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => at = end_of_string(text, at),
            b'[' | b'{' => {
                open += 1;
                values += 1;
            }
            b']' | b'}' => open = open.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if open > limits.json_nesting_max {
            let max = limits.json_nesting_max;
            return Err(Refusal::limit_exceeded(format!("JSON values nest deeper than {max}")));
        }
        if values > limits.json_values_max {
            let max = limits.json_values_max;
            return Err(Refusal::limit_exceeded(format!("more than {max} JSON values")));
        }
    }
    Ok(())
}

fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'\\' => at += 1,
            b'"' => break,
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> bool {
        scan_json(text.as_bytes(), &Limits::default()).is_err()
    }

    #[test]
    fn deep_values_are_refused_and_strings_are_not_looked_into() {
        assert!(!refused(&"[".repeat(32)));
        assert!(refused(&"[".repeat(33)));
        assert!(refused(&"{\"a\":".repeat(33)));
        assert!(!refused(&format!("\"{}\\\"{}\"", "[".repeat(99), "[".repeat(99))));
    }

    #[test]
    fn many_values_are_refused() {
        assert!(!refused(&format!("[{}0]", "0,".repeat(19_000))));
        assert!(refused(&format!("[{}0]", "0,".repeat(20_000))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = scan_json(&bytes, &Limits::default());
        }
    }
}
