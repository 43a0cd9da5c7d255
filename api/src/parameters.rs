//! The parameters of a GraphQL request, as JSON brings them over HTTP and WebSocket.

use std::{collections::BTreeMap, fmt};

use async_graphql::Variables;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A request before anything is known about its document. Members beyond these are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The document's text; `None` when its id stands for it.
    pub query: Option<String>,
    /// What the document is known by: `documentId`, or the hash of a persisted query. One of the two is there.
    pub document_id: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Variables,
    /// Whether the answer is to say what the operation cost: `extensions.cost` is true.
    pub wants_cost: bool,
}

/// What is wrong with a request's envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the request is not JSON in UTF-8")]
    Json,
    #[error("the request must be a JSON object; batches are not accepted")]
    Envelope,
    #[error("\"query\" must be a string")]
    Query,
    #[error("\"documentId\" must be a string that is not empty")]
    DocumentId,
    #[error("\"extensions.persistedQuery\" must have \"version\" 1 and a \"sha256Hash\"")]
    PersistedQuery,
    #[error("\"documentId\" and \"extensions.persistedQuery\" name two documents: send one of them")]
    TwoDocuments,
    #[error("\"operationName\" must be a string")]
    OperationName,
    #[error("\"variables\" must be an object")]
    Variables,
    #[error("\"extensions\" must be an object")]
    Extensions,
}

impl Parameters {
    /// Of the document that came along.
    pub fn document_bytes(&self) -> usize {
        self.query.as_ref().map_or(0, String::len)
    }

    /// From a JSON object whose size and nesting are known to be bounded.
    pub fn from_json(text: &str) -> Result<Self, Malformed> {
        let members: Members<'_> = serde_json::from_str(text).map_err(|error| match error.is_data() {
            true => Malformed::Envelope,
            false => Malformed::Json,
        })?;
        let text = |member: Option<&RawValue>, malformed| read(member.map(RawValue::get), malformed);
        let texts = Texts {
            query: text(members.query, Malformed::Query)?,
            document_id: text(members.document_id, Malformed::DocumentId)?,
            operation_name: text(members.operation_name, Malformed::OperationName)?,
        };
        Self::assemble(texts, members.variables.map(RawValue::get), members.extensions.map(RawValue::get))
    }

    /// From the parameters of an address, of which empty ones count as absent.
    pub fn from_texts(
        texts: Texts,
        variables: Option<&str>,
        extensions: Option<&str>,
    ) -> Result<Self, Malformed> {
        let Texts { query, document_id, operation_name } = texts;
        let (query, document_id) = (not_empty(query), not_empty(document_id));
        let given = |text: Option<&'_ str>| text.is_some_and(|text| !text.is_empty());
        let (variables, extensions) =
            (variables.filter(|_| given(variables)), extensions.filter(|_| given(extensions)));
        Self::assemble(Texts { query, document_id, operation_name }, variables, extensions)
    }

    /// Variables and extensions are JSON.
    fn assemble(texts: Texts, variables: Option<&str>, extensions: Option<&str>) -> Result<Self, Malformed> {
        let extensions = read_object(extensions, Malformed::Extensions)?;
        let extension = |name: &str| extensions.get(name).map(|value| value.get());
        let persisted: Option<PersistedQuery> = read(extension("persistedQuery"), Malformed::PersistedQuery)?;
        let document_id = match (texts.document_id, persisted) {
            (Some(id), _) if id.is_empty() => return Err(Malformed::DocumentId),
            (Some(_), Some(_)) => return Err(Malformed::TwoDocuments),
            (Some(id), None) => Some(id.strip_prefix("sha256:").map_or(id.clone(), str::to_owned)),
            (None, Some(persisted)) if persisted.version == 1 && !persisted.sha256_hash.is_empty() => {
                Some(persisted.sha256_hash)
            }
            (None, Some(_)) => return Err(Malformed::PersistedQuery),
            (None, None) => None,
        };
        // Some clients send an empty text along with a hash.
        let query = texts.query.filter(|query| !query.is_empty() || document_id.is_none());
        if query.is_none() && document_id.is_none() {
            return Err(Malformed::Query);
        }
        Ok(Self {
            query,
            document_id,
            operation_name: not_empty(texts.operation_name),
            variables: read_variables(variables)?,
            wants_cost: extension("cost") == Some("true"),
        })
    }
}

/// The members of a request as they are written; of two with one name the later counts.
#[derive(Default)]
struct Members<'a> {
    query: Option<&'a RawValue>,
    document_id: Option<&'a RawValue>,
    operation_name: Option<&'a RawValue>,
    variables: Option<&'a RawValue>,
    extensions: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Member {
    Query,
    DocumentId,
    OperationName,
    Variables,
    Extensions,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Members<'de> {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self, A::Error> {
        while let Some(member) = members.next_key()? {
            let value: &RawValue = members.next_value()?;
            match member {
                Member::Query => self.query = Some(value),
                Member::DocumentId => self.document_id = Some(value),
                Member::OperationName => self.operation_name = Some(value),
                Member::Variables => self.variables = Some(value),
                Member::Extensions => self.extensions = Some(value),
                Member::Other => {}
            }
        }
        Ok(self)
    }
}

/// Parameters that are texts.
#[derive(Debug, Default)]
pub struct Texts {
    pub query: Option<String>,
    pub document_id: Option<String>,
    pub operation_name: Option<String>,
}

/// Apollo's protocol of automatic persisted queries.
#[derive(Deserialize)]
struct PersistedQuery {
    version: u32,
    #[serde(rename = "sha256Hash")]
    sha256_hash: String,
}

fn not_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Null counts as absent.
fn read<T: DeserializeOwned>(text: Option<&str>, malformed: Malformed) -> Result<Option<T>, Malformed> {
    let Some(text) = text else { return Ok(None) };
    serde_json::from_str(text).map_err(|error| if error.is_data() { malformed } else { Malformed::Json })
}

fn read_variables(text: Option<&str>) -> Result<Variables, Malformed> {
    read(text, Malformed::Variables).map(Option::unwrap_or_default)
}

fn read_object(text: Option<&str>, malformed: Malformed) -> Result<BTreeMap<String, &RawValue>, Malformed> {
    let Some(text) = text else { return Ok(BTreeMap::new()) };
    let object: Option<_> = serde_json::from_str(text).map_err(|error| match error.is_data() {
        true => malformed,
        false => Malformed::Json,
    })?;
    Ok(object.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_absent_parameters_are_the_same() {
        let plain = Parameters::from_json(r#"{"query":"{a}"}"#);
        let nulls = r#"{"query":"{a}","variables":null,"operationName":null,"extensions":null,"more":[1]}"#;
        assert_eq!(plain, Parameters::from_json(nulls));
        let (query, empty) = (Some("{a}".into()), Some(String::new()));
        let texts = Texts { query, document_id: empty.clone(), operation_name: empty };
        assert_eq!(plain, Parameters::from_texts(texts, Some(""), Some("")));
    }

    #[test]
    fn a_document_is_named_by_its_text_its_hash_or_its_id() {
        let named = |text: &str| {
            let parameters =
                Parameters::from_json(text).unwrap_or_else(|malformed| panic!("{text}: {malformed}"));
            (parameters.query, parameters.document_id)
        };
        let (text, id) = (Some("{a}".to_owned()), Some("ab".to_owned()));
        for query in ["", r#""query":"","#, r#""query":null,"#] {
            let apollo = r#""extensions":{"persistedQuery":{"version":1,"sha256Hash":"ab"}}"#;
            assert_eq!(named(&format!("{{{query}{apollo}}}")), (None, id.clone()));
        }
        assert_eq!(named(r#"{"documentId":"sha256:ab","query":"{a}"}"#), (text, id.clone()));
        assert_eq!(named(r#"{"documentId":"ab"}"#), (None, id));
    }

    #[test]
    fn parameters_of_the_wrong_type_are_malformed() {
        for (text, expected) in [
            ("", Malformed::Json),
            ("[{}]", Malformed::Envelope),
            ("7", Malformed::Envelope),
            ("{}", Malformed::Query),
            (r#"{"query":null}"#, Malformed::Query),
            (r#"{"query":[]}"#, Malformed::Query),
            (r#"{"query":"","operationName":1}"#, Malformed::OperationName),
            (r#"{"query":"","variables":[]}"#, Malformed::Variables),
            (r#"{"query":"","variables":"x"}"#, Malformed::Variables),
            (r#"{"query":"","extensions":false}"#, Malformed::Extensions),
            (r#"{"query":"","extensions":{"persistedQuery":7}}"#, Malformed::PersistedQuery),
            (
                r#"{"extensions":{"persistedQuery":{"version":2,"sha256Hash":"a"}}}"#,
                Malformed::PersistedQuery,
            ),
            (r#"{"extensions":{"persistedQuery":{"version":1}}}"#, Malformed::PersistedQuery),
            (
                r#"{"documentId":"a","extensions":{"persistedQuery":{"version":1,"sha256Hash":"b"}}}"#,
                Malformed::TwoDocuments,
            ),
            (r#"{"documentId":""}"#, Malformed::DocumentId),
            (r#"{"documentId":7}"#, Malformed::DocumentId),
            (r#"{"query":"\ud800"}"#, Malformed::Json),
            (r#"{"query":"","variables":{"a":"\ud800"}}"#, Malformed::Json),
            (r#"{"query":"""#, Malformed::Json),
        ] {
            assert_eq!(Parameters::from_json(text), Err(expected), "{text}");
        }
    }
}
