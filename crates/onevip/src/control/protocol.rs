//! What is said over the control socket: `{"command": NAME, …}`, answered by a [`tagged`] value.

use crate::base::tagged::{self, OTHER_VERSION};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A command, with what it is told.
pub trait Request: Serialize + DeserializeOwned {
    /// Its name.
    const COMMAND: &'static str;
    /// What it brings.
    type Reply: Serialize + DeserializeOwned;
    /// The name of that.
    const REPLY: &'static str;
}

/// The name of the reply to whatever is simply done, in words.
pub const DONE: &str = "done";
/// The name of a refusal; its value says why.
const REFUSED: &str = "refused";

/// A request as it is sent.
///
/// # Errors
/// It cannot be written as JSON.
pub fn encode_request<R: Request>(request: &R) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Sent<'a, R> {
        command: &'static str,
        #[serde(flatten)]
        request: &'a R,
    }
    serde_json::to_vec(&Sent { command: R::COMMAND, request })
}

/// The command that is asked for.
///
/// # Errors
/// The text is no request.
pub fn command_of(text: &str) -> serde_json::Result<String> {
    #[derive(Deserialize)]
    #[serde(expecting = "a request with its `command`")]
    struct Named {
        command: String,
    }
    serde_json::from_str::<Named>(text).map(|named| named.command)
}

/// A reply as it is sent.
///
/// # Errors
/// It cannot be written as JSON.
pub fn encode_reply<R: Request>(reply: &R::Reply) -> serde_json::Result<Vec<u8>> {
    tagged::encode(R::REPLY, reply)
}

/// Why there is no reply, as it is sent.
pub fn encode_refusal(why: &str) -> Vec<u8> {
    // A name and a text can always be written.
    tagged::encode(REFUSED, &why).unwrap_or_default()
}

/// What came back.
///
/// # Errors
/// A refusal, in its words; or something that this program does not know.
pub fn decode_reply<R: Request>(text: &[u8]) -> anyhow::Result<R::Reply> {
    let (name, value) = tagged::decode(text)
        .with_context(|| format!("the daemon's answer cannot be understood; {OTHER_VERSION}"))?;
    if name == REFUSED {
        bail!("{}", serde_json::from_str::<String>(value.get()).unwrap_or_default());
    }
    if name != R::REPLY {
        bail!("the daemon answered something else; {OTHER_VERSION}");
    }
    serde_json::from_str(value.get())
        .with_context(|| format!("the daemon's answer cannot be understood; {OTHER_VERSION}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Add {
        one: u8,
        other: Option<u8>,
    }

    impl Request for Add {
        const COMMAND: &'static str = "add";
        type Reply = u8;
        const REPLY: &'static str = "sum";
    }

    #[test]
    fn a_request_names_its_command_and_a_reply_itself() {
        let sent = encode_request(&Add { one: 1, other: None }).unwrap();
        assert_eq!(sent, br#"{"command":"add","one":1,"other":null}"#);
        assert_eq!(command_of(std::str::from_utf8(&sent).unwrap()).unwrap(), "add");
        assert!(command_of("{}").is_err());
        assert_eq!(encode_reply::<Add>(&3).unwrap(), br#"{"sum":3}"#);
        assert_eq!(decode_reply::<Add>(br#"{"sum":3}"#).unwrap(), 3);
        let why = |text: &[u8]| decode_reply::<Add>(text).unwrap_err().to_string();
        assert_eq!(why(&encode_refusal("not today")), "not today");
        assert!(why(br#"{"difference":3}"#).contains("something else"));
        assert!(why(b"3").contains("another version"));
        assert!(why(br#"{"sum":"three"}"#).contains("another version"));
    }
}
