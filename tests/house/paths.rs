//! Reads the paths off a source, as far as the borders need it: no macros are expanded.

use std::path::Path;

/// Every path in a source, with its line; groups written out, and `crate`, `self` and `super` resolved.
pub fn paths_of(file: &str, text: &str) -> Vec<(usize, String)> {
    let tokens = tokens(text);
    let mut modules = module_of(file);
    let mut found = Vec::new();
    // Depth of braces, and the depths at which inline modules began.
    let (mut depth, mut inline) = (0_usize, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let (_, token) = &tokens[at];
        let word = |offset: usize| tokens.get(at + offset).map_or("", |(_, token)| token.as_str());
        match token.as_str() {
            "use" => at = use_tree(&tokens, at + 1, &modules, &[], &mut found),
            "mod" if word(2) == "{" => {
                modules.push(word(1).to_owned());
                depth += 1;
                inline.push(depth);
                at += 3;
            }
            "{" => {
                depth += 1;
                at += 1;
            }
            "}" => {
                if inline.last() == Some(&depth) {
                    inline.pop();
                    modules.pop();
                }
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ if is_word(token) && word(1) == "::" => {
                let line = tokens[at].0;
                let mut path = vec![token.clone()];
                at += 1;
                while at + 1 < tokens.len() && tokens[at].1 == "::" && is_word(&tokens[at + 1].1) {
                    path.push(tokens[at + 1].1.clone());
                    at += 2;
                }
                found.push((line, resolve(&path, &modules)));
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads one branch of a `use` tree from `at`, and returns where it ends.
fn use_tree(
    tokens: &[(usize, String)],
    mut at: usize,
    modules: &[String],
    prefix: &[String],
    found: &mut Vec<(usize, String)>,
) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |(line, _)| *line);
    while let Some((_, token)) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                while tokens.get(at).is_some_and(|(_, token)| token != "}") {
                    at = use_tree(tokens, at + 1, modules, &path, found);
                }
                return at + 1;
            }
            // The name that a thing is given here says nothing about what it is.
            "as" => at += 1,
            "::" | "*" => {}
            // `{self}` is the module itself.
            "self" if !path.is_empty() => {}
            word if is_word(word) => path.push(word.to_owned()),
            _ => break,
        }
        at += 1;
    }
    if !path.is_empty() {
        found.push((line, resolve(&path, modules)));
    }
    at
}

fn resolve(path: &[String], modules: &[String]) -> String {
    let mut full = match path[0].as_str() {
        "crate" => vec![modules[0].clone()],
        "self" | "super" => modules.to_vec(),
        // In the crate's root its modules go by their bare names.
        first if modules.len() == 1 && Path::new(&format!("{}/src/{first}.rs", modules[0])).exists() => {
            vec![modules[0].clone(), first.to_owned()]
        }
        first => vec![first.to_owned()],
    };
    if path[0] == "super" && full.len() > 1 {
        full.pop();
    }
    for part in &path[1..] {
        match part.as_str() {
            "super" if full.len() > 1 => drop(full.pop()),
            part => full.push(part.to_owned()),
        }
    }
    full.join("::")
}

/// `domain/src/model/id.rs` is `domain::model::id`.
fn module_of(file: &str) -> Vec<String> {
    let parts = file.trim_end_matches(".rs").split('/').filter(|part| !["src", "lib", "main"].contains(part));
    parts.map(str::to_owned).collect()
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphanumeric() || first == '_')
}

/// Words, `::` and single signs, with their lines; without comments, strings and characters.
fn tokens(text: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#\"") => {
                let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
                let body = end.len() + 1;
                rest[body..].find(end).map_or(rest.len(), |at| body + at + end.len())
            }
            // A character, unless it is a lifetime.
            '\'' => rest[1..].find('\'').filter(|end| (1..=10).contains(end)).map_or(1, |end| {
                let inner = &rest[1..=end];
                if inner.starts_with('\\') || inner.chars().count() == 1 { end + 2 } else { 1 }
            }),
            _ if first.is_alphanumeric() || first == '_' => {
                rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
            }
            _ if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        let token = &rest[..length];
        if is_word(token) && !token.contains('"') || token == "::" || "{}*;,".contains(token) {
            tokens.push((line, token.to_owned()));
        }
        line += token.matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, sign) in text.char_indices().skip(1) {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn reading_sees_through_groups_renames_and_relative_paths() {
    let seen = |file: &str, text: &str| -> Vec<String> {
        paths_of(file, text).into_iter().map(|(_, path)| path).filter(|path| path.contains("::")).collect()
    };
    let model = "domain/src/model/id.rs";
    assert_eq!(
        seen(model, "use crate::{port::{self, Clock as C}, adapter};"),
        ["domain::port", "domain::port::Clock", "domain::adapter"]
    );
    assert_eq!(seen(model, "use super::super::service::*;"), ["domain::service"]);
    assert_eq!(
        seen(model, "fn f() -> sea_orm::DbErr { crate::wiring::x() }"),
        ["sea_orm::DbErr", "domain::wiring::x"]
    );
    assert_eq!(
        seen(model, "mod tests { use super::*; use super::super::port::Log; }"),
        ["domain::model::id", "domain::model::port::Log"]
    );
    assert_eq!(
        seen(model, "// crate::port::A\n/* crate::port::B */ const S: &str = \"crate::port::C\";"),
        [""; 0]
    );
    assert_eq!(paths_of(model, "\n\nuse axum;"), [(3, "axum".to_owned())]);
}
