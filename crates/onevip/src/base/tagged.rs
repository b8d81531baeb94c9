//! Values with a name, as JSON: `{"NAME": VALUE}`, or `"NAME"` alone for the empty value `()`. How the daemon answers
//! commands and other nodes.

use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// What is said where an answer is not one that this program knows.
pub const OTHER_VERSION: &str = "is it of another version?";

/// A value under its name.
pub fn encode(name: &str, value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    match serde_json::to_string(value)?.as_str() {
        "null" => serde_json::to_vec(name),
        text => Ok(format!("{{{}:{text}}}", serde_json::to_string(name)?).into_bytes()),
    }
}

/// The name, and the value as it is written (`null` where there is none); `None` for anything else.
pub fn decode(text: &[u8]) -> Option<(String, Box<RawValue>)> {
    if let Ok(name) = serde_json::from_slice::<String>(text) {
        return Some((name, RawValue::from_string("null".to_owned()).ok()?));
    }
    let fields: HashMap<String, Box<RawValue>> = serde_json::from_slice(text).ok()?;
    if fields.len() == 1 { fields.into_iter().next() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_name() {
        let read = |text: &str| decode(text.as_bytes()).map(|(name, value)| (name, value.get().to_owned()));
        let both = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(encode("done", &"it is").unwrap(), br#"{"done":"it is"}"#);
        assert_eq!(encode("noted", &()).unwrap(), br#""noted""#);
        assert_eq!(read(r#"{"done": "it is"}"#), both("done", r#""it is""#));
        assert_eq!(read(r#" "noted""#), both("noted", "null"));
        for wrong in ["", "{}", r#"{"a":1,"b":2}"#, "7", "null", r#"{"a":"#, "[]"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
