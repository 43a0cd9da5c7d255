//! The parameters of a `GET`, strictly decoded: what is not UTF-8 is refused, not replaced.

use crate::{
    guard::{Limits, scan_json},
    parameters::{Parameters, Texts},
    refusal::Refusal,
};

pub(super) fn read(query: &str, limits: &Limits) -> Result<Parameters, Refusal> {
    let [mut document, mut document_id, mut operation_name, mut variables, mut extensions] =
        [const { None }; 5];
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let slot = match decode(name)?.as_str() {
            "query" => &mut document,
            "documentId" => &mut document_id,
            "operationName" => &mut operation_name,
            "variables" => &mut variables,
            "extensions" => &mut extensions,
            _ => continue,
        };
        if slot.replace(decode(value)?).is_some() {
            return Err(Refusal::bad_request("a parameter is given twice"));
        }
    }
    for json in [&variables, &extensions].into_iter().flatten() {
        scan_json(json.as_bytes(), limits)?;
    }
    let texts = Texts { query: document, document_id, operation_name };
    Parameters::from_texts(texts, variables.as_deref(), extensions.as_deref())
        .map_err(|malformed| Refusal::bad_request(malformed.to_string()))
}

/// `application/x-www-form-urlencoded`.
fn decode(text: &str) -> Result<String, Refusal> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next().and_then(digit), bytes.next().and_then(digit)];
                let [Some(high), Some(low)] = digits else { return Err(malformed()) };
                high * 16 + low
            }
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| malformed())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn malformed() -> Refusal {
    Refusal::bad_request("the query string is not percent-encoded UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_strictly() {
        let limits = Limits::default();
        let read = |query: &str| read(query, &limits);
        let parameters = read("query=%7Ba%7D+&operationName=&variables=%7B%22x%22%3A%22%C3%A4%22%7D&other=1")
            .expect("valid");
        assert_eq!(parameters.query.as_deref(), Some("{a} "));
        assert_eq!(parameters.operation_name, None);
        assert_eq!(parameters.variables.len(), 1);
        for query in [
            "",
            "query=",
            "query=%7",
            "query=%ff",
            "query=a&query=b",
            "query=a&variables=[]",
            "query=a&variables=x",
        ] {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
