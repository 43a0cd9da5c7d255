//! What a client may have meant by a name that does not exist.

use std::fmt::Write;

/// Names told.
const NAMES_MAX: usize = 5;
/// Longer ones resemble none of ours; the comparison takes the product of two lengths.
const NAME_BYTES_MAX: usize = 64;

/// ` Did you mean "id"?`, or nothing.
pub(super) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    if name.len() > NAME_BYTES_MAX {
        return String::new();
    }
    let near = |known: &str| {
        let bound = (name.len() / 2).max(known.len() / 2).max(1);
        Some(distance(name, known)).filter(|distance| *distance < bound)
    };
    let mut similar: Vec<_> = known.filter_map(|known| Some((near(known)?, known))).collect();
    similar.sort_unstable();
    let mut text = String::new();
    for (index, (_, known)) in similar.iter().take(NAMES_MAX).enumerate() {
        let before = if index == 0 { " Did you mean " } else { ", " };
        // A string takes everything.
        let _ = write!(text, "{before}\"{known}\"");
    }
    if !text.is_empty() {
        text.push('?');
    }
    text
}

/// Single characters to insert, remove or replace (Levenshtein). Names are ASCII.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=one.len()).collect();
    for (line, wanted) in other.bytes().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (above, given) in row.iter_mut().skip(1).zip(one.bytes()) {
            let replaced = diagonal + usize::from(wanted != given);
            diagonal = *above;
            left = replaced.min(*above + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_like_the_given_one_are_told_nearest_first() {
        let known = ["username", "displayName", "id", "createdAt"];
        let told = |name| suggestion(name, known.into_iter());
        assert_eq!(told("usernam"), " Did you mean \"username\"?");
        assert_eq!(told("display_name"), " Did you mean \"displayName\"?");
        assert_eq!(told("zzzzzz"), "");
        assert_eq!(told(&"username".repeat(9)), "");
        let alike: Vec<_> = (0..9).map(|number| format!("name{number}")).collect();
        let told = suggestion("name", alike.iter().map(String::as_str));
        assert_eq!(told.matches('"').count() / 2, NAMES_MAX);
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (one, other, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
