//! Trusted documents: where manifests are given, what they list is all that runs here.
//!
//! A manifest is what a client's build writes: Relay's `persisted_queries.json` (an object of texts by id), or Apollo's
//! persisted query manifest (a list of operations with `id` and `body`). Clients send the id as `documentId` or
//! `extensions.persistedQuery.sha256Hash`, or the very text.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::DocumentHash;
use serde::Deserialize;

use crate::{document::Documents, refusal::Refusal};

/// Bytes of a manifest; a large app's has about 2 MiB.
const MANIFEST_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What Apollo's manifests say that they are.
const APOLLO_FORMAT: &str = "apollo-persisted-query-manifest";

/// Why a manifest is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct ManifestError {
    file: PathBuf,
    problem: String,
}

/// The documents that may run.
#[derive(Debug)]
pub struct Trusted {
    by_id: HashMap<String, Listed>,
    by_hash: HashMap<DocumentHash, Arc<str>>,
}

/// A document, and the manifest that lists it.
#[derive(Debug)]
struct Listed {
    text: Arc<str>,
    file: Arc<Path>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Manifest {
    Apollo { format: String, version: u32, operations: Vec<ApolloOperation> },
    Relay(HashMap<String, String>),
}

#[derive(Deserialize)]
struct ApolloOperation {
    id: String,
    body: String,
}

impl Trusted {
    /// `None` without manifests: everything runs. Each document has to be within the limits of `documents`; whether it fits the
    /// schema, [`Self::first_fault`] lets the caller find out.
    pub fn read(files: &[PathBuf], documents: &Documents) -> Result<Option<Self>, ManifestError> {
        if files.is_empty() {
            return Ok(None);
        }
        let mut trusted = Self { by_id: HashMap::new(), by_hash: HashMap::new() };
        for file in files {
            let problem = |problem: String| ManifestError { file: file.clone(), problem };
            let listed_in: Arc<Path> = file.as_path().into();
            let text = read(file).map_err(|error| problem(error.to_string()))?;
            for (id, body) in parse(&text).map_err(problem)? {
                if id.is_empty() {
                    return Err(problem("a document has an empty id".to_owned()));
                }
                let fault = |refusal: Refusal| problem(format!("the document {id}: {}", refusal.message));
                documents.read(&body).map_err(fault)?;
                let body: Arc<str> = body.into();
                trusted.by_hash.insert(DocumentHash::of(&body), body.clone());
                let listed = Listed { text: body.clone(), file: listed_in.clone() };
                if trusted.by_id.insert(id.clone(), listed).is_some_and(|other| other.text != body) {
                    return Err(problem(format!("the id {id} stands for two documents")));
                }
            }
        }
        Ok(Some(trusted))
    }

    /// The document that a request means, by its id, its hash or its text.
    pub fn find(&self, id: Option<&str>, text: Option<&str>) -> Result<&Arc<str>, Refusal> {
        let found = match (id, text) {
            (Some(id), _) => self
                .by_id
                .get(id)
                .map(|listed| &listed.text)
                .or_else(|| self.by_hash.get(&DocumentHash::parse(id)?))
                .filter(|found| text.is_none_or(|text| *text == ***found)),
            (None, Some(text)) => self.by_hash.get(&DocumentHash::of(text)),
            (None, None) => None,
        };
        found.ok_or_else(Refusal::not_trusted)
    }

    /// Asks of every document what is wrong with it, until something is.
    pub async fn first_fault(
        &self,
        mut fault_of: impl AsyncFnMut(&str) -> Option<String>,
    ) -> Option<ManifestError> {
        for (id, Listed { text, file }) in &self.by_id {
            if let Some(fault) = fault_of(text).await {
                let problem = format!("the document {id} is not valid: {fault}");
                return Some(ManifestError { file: file.to_path_buf(), problem });
            }
        }
        None
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).map_or(true, |length| length > MANIFEST_BYTES_MAX) {
        return Err(io::Error::other(format!("larger than {MANIFEST_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let wrong = "neither a manifest of Apollo's, version 1, nor one of Relay's";
    match serde_json::from_str(text) {
        Ok(Manifest::Apollo { format, version: 1, operations }) if format == APOLLO_FORMAT => {
            Ok(operations.into_iter().map(|operation| (operation.id, operation.body)).collect())
        }
        Ok(Manifest::Relay(texts)) => Ok(texts.into_iter().collect()),
        Ok(Manifest::Apollo { .. }) => Err(wrong.to_owned()),
        Err(error) => Err(format!("{wrong}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{guard::Limits, typesystem::TypeSystem};

    fn trusted(manifests: &[&str]) -> Result<Option<Trusted>, ManifestError> {
        let folder = tempfile::tempdir().expect("a folder");
        let files: Vec<PathBuf> = manifests
            .iter()
            .enumerate()
            .map(|(number, text)| {
                let file = folder.path().join(number.to_string());
                std::fs::write(&file, text).expect("writes");
                file
            })
            .collect();
        let types = Arc::new(TypeSystem::parse("type Query { a: Int b: Int }").expect("a schema"));
        Trusted::read(&files, &Documents::new(Limits::default(), types, 1000, 1))
    }

    const RELAY: &str = r#"{"77aa": "{ a }"}"#;
    const APOLLO: &str = r#"{"format": "apollo-persisted-query-manifest", "version": 1,
        "operations": [{"id": "one", "name": "B", "type": "query", "body": "query B { b }"}]}"#;

    #[test]
    fn manifests_of_both_kinds_are_read_together() {
        let trusted = trusted(&[RELAY, APOLLO]).expect("good").expect("some");
        let text = |id, text| trusted.find(id, text).map(ToString::to_string).ok();
        assert_eq!(text(Some("77aa"), None).as_deref(), Some("{ a }"));
        assert_eq!(text(Some("one"), None).as_deref(), Some("query B { b }"));
        assert_eq!(text(None, Some("{ a }")).as_deref(), Some("{ a }"));
        let hash = DocumentHash::of("{ a }").hex();
        assert_eq!(text(Some(&hash), Some("{ a }")).as_deref(), Some("{ a }"));
        for (id, given) in
            [(Some("two"), None), (None, Some("{ b }")), (Some("one"), Some("{ a }")), (None, None)]
        {
            assert_eq!(text(id, given), None, "{id:?} {given:?}");
        }
    }

    #[test]
    fn without_manifests_everything_runs_and_bad_ones_are_told() {
        assert!(trusted(&[]).expect("good").is_none());
        let other_version = APOLLO.replace("1,", "2,");
        let (deep, two) = (format!(r#"{{"x": "{}"}}"#, "{a".repeat(99)), r#"{"77aa": "{ b }"}"#);
        for manifests in [
            &["[]"][..],
            &["{"],
            &[r#"{"a": 1}"#],
            &[r#"{"": "{ a }"}"#],
            &[other_version.as_str()],
            &[&deep],
            &[RELAY, two],
        ] {
            assert!(trusted(manifests).is_err(), "{manifests:?}");
        }
    }
}
