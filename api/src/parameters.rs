//! The parameters of a GraphQL request, as JSON brings them over HTTP and WebSocket.

use std::collections::BTreeMap;

use async_graphql::Variables;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// A request before anything is known about its document. Members beyond these are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    pub query: String,
    pub operation_name: Option<String>,
    pub variables: Variables,
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
    #[error("\"operationName\" must be a string")]
    OperationName,
    #[error("\"variables\" must be an object")]
    Variables,
    #[error("\"extensions\" must be an object")]
    Extensions,
}

impl Parameters {
    /// From a JSON object whose size and nesting are known to be bounded.
    pub fn from_json(text: &str) -> Result<Self, Malformed> {
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|error| match error.is_data() {
                true => Malformed::Envelope,
                false => Malformed::Json,
            })?;
        let member = |name: &str| members.get(name).map(|value| value.get());
        Self::assemble(member("query"), member("operationName"), member("variables"), member("extensions"))
    }

    /// From members that are JSON texts themselves.
    fn assemble(
        query: Option<&str>,
        operation_name: Option<&str>,
        variables: Option<&str>,
        extensions: Option<&str>,
    ) -> Result<Self, Malformed> {
        let query = read(query, Malformed::Query)?.ok_or(Malformed::Query)?;
        let operation_name: Option<String> = read(operation_name, Malformed::OperationName)?;
        read_object(extensions, Malformed::Extensions)?;
        Ok(Self { query, operation_name: not_empty(operation_name), variables: read_variables(variables)? })
    }

    /// From the parameters of an address: texts, of which empty ones count as absent.
    pub fn from_texts(
        query: Option<String>,
        operation_name: Option<String>,
        variables: Option<&str>,
        extensions: Option<&str>,
    ) -> Result<Self, Malformed> {
        let query = not_empty(query).ok_or(Malformed::Query)?;
        read_object(extensions.filter(|text| !text.is_empty()), Malformed::Extensions)?;
        let variables = read_variables(variables.filter(|text| !text.is_empty()))?;
        Ok(Self { query, operation_name: not_empty(operation_name), variables })
    }
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

fn read_object(text: Option<&str>, malformed: Malformed) -> Result<(), Malformed> {
    let _: Option<BTreeMap<String, &RawValue>> = match text {
        Some(text) => serde_json::from_str(text).map_err(|error| match error.is_data() {
            true => malformed,
            false => Malformed::Json,
        })?,
        None => None,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_absent_parameters_are_the_same() {
        let plain = Parameters::from_json(r#"{"query":"{a}"}"#);
        let nulls = r#"{"query":"{a}","variables":null,"operationName":null,"extensions":null,"more":[1]}"#;
        assert_eq!(plain, Parameters::from_json(nulls));
        assert_eq!(
            plain,
            Parameters::from_texts(Some("{a}".into()), Some(String::new()), Some(""), Some(""))
        );
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
            (r#"{"query":"\ud800"}"#, Malformed::Json),
            (r#"{"query":"","variables":{"a":"\ud800"}}"#, Malformed::Json),
            (r#"{"query":"""#, Malformed::Json),
        ] {
            assert_eq!(Parameters::from_json(text), Err(expected), "{text}");
        }
    }
}
