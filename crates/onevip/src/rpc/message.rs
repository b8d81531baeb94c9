//! Questions and answers: `{"ask": NAME, …}`, answered by a [`tagged`] value. JSON, because people may want to look.

use crate::base::tagged::{self, OTHER_VERSION};
use anyhow::{Context, anyhow, ensure};
use onevip_core::NodeId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;

/// A question to a node.
pub trait Question: Serialize + DeserializeOwned {
    /// Its name.
    const ASK: &'static str;
    /// What answers it.
    type Answer: Serialize + DeserializeOwned;
    /// The name of that.
    const ANSWER: &'static str;
    /// Whether it only asks: such a one whoever may use the control socket can ask all nodes.
    const HARMLESS: bool = true;
}

/// The name of a refusal; its value says why.
const REFUSED: &str = "refused";
/// The longest answer, in bytes: some 4,000 sessions.
pub const ANSWER_MAX: usize = 1 << 20;

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoAnswer {
    /// The node says why not.
    Refused(String),
    /// It could not be asked, or did not answer.
    Silent(String),
    /// It answered something that this program does not know.
    NotUnderstood,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Silent(why) => f.write_str(why),
            Self::NotUnderstood => write!(f, "its answer cannot be understood; {OTHER_VERSION}"),
        }
    }
}

/// A question as it is sent.
///
/// # Errors
/// It cannot be written as JSON.
pub fn encode<Q: Question>(question: &Q) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Sent<'a, Q> {
        ask: &'static str,
        #[serde(flatten)]
        question: &'a Q,
    }
    serde_json::to_vec(&Sent { ask: Q::ASK, question })
}

/// What a node answered.
///
/// # Errors
/// Nothing, or not what was asked.
pub fn decode<Q: Question>(answer: &[u8]) -> Result<Q::Answer, NoAnswer> {
    let (name, value) = tagged::decode(answer).ok_or(NoAnswer::NotUnderstood)?;
    if name == REFUSED {
        return Err(NoAnswer::Refused(serde_json::from_str(value.get()).unwrap_or_default()));
    }
    let known = Some(value).filter(|_| name == Q::ANSWER);
    known.and_then(|value| serde_json::from_str(value.get()).ok()).ok_or(NoAnswer::NotUnderstood)
}

fn refusal(why: &str) -> Vec<u8> {
    // A name and a text can always be written.
    tagged::encode(REFUSED, &why).unwrap_or_default()
}

type Run = Box<dyn Fn(Option<NodeId>, &[u8]) -> anyhow::Result<Vec<u8>> + Send + Sync>;

/// Answers one kind of question.
pub struct QuestionHandler {
    ask: &'static str,
    harmless: bool,
    read: fn(&[u8]) -> serde_json::Result<Vec<u8>>,
    run: Run,
}

impl QuestionHandler {
    /// Answers by `run`, which is told which node asks; none for a command of this host.
    pub fn new<Q: Question>(
        run: impl Fn(Option<NodeId>, Q) -> anyhow::Result<Q::Answer> + Send + Sync + 'static,
    ) -> Self {
        let run = move |from, text: &[u8]| {
            let question = serde_json::from_slice(text).map_err(|_| not_understood())?;
            Ok(tagged::encode(Q::ANSWER, &run(from, question)?)?)
        };
        let read = |text: &[u8]| encode(&serde_json::from_slice::<Q>(text)?);
        Self { ask: Q::ASK, harmless: Q::HARMLESS, read, run: Box::new(run) }
    }
}

fn not_understood() -> anyhow::Error {
    anyhow::anyhow!("the question is not understood here; run the same release everywhere")
}

/// All that this node can answer.
pub struct QuestionHandlers(pub Vec<QuestionHandler>);

impl QuestionHandlers {
    /// The answer, as it is sent; never longer than [`ANSWER_MAX`].
    pub fn answer(&self, from: Option<NodeId>, question: &[u8]) -> Vec<u8> {
        let answer = match self.find(question) {
            Some(answerer) => (answerer.run)(from, question),
            None => Err(not_understood()),
        };
        match answer {
            Ok(answer) if answer.len() <= ANSWER_MAX => answer,
            Ok(answer) => refusal(&format!("the answer is too long ({} bytes); ask for less", answer.len())),
            Err(error) => refusal(&format!("{error:#}")),
        }
    }

    /// A question that somebody on this host wants to ask other nodes, as it is sent: nothing but what it consists of.
    ///
    /// # Errors
    /// This node does not know it, or it is an order.
    pub fn read(&self, question: &[u8]) -> anyhow::Result<Vec<u8>> {
        let handler = self.find(question).context("not understood: there is no such question")?;
        ensure!(handler.harmless, "that is no question, but an order");
        (handler.read)(question).map_err(|error| anyhow!("not understood: {error}"))
    }

    fn find(&self, question: &[u8]) -> Option<&QuestionHandler> {
        #[derive(Deserialize)]
        struct Named {
            ask: String,
        }
        let named: Named = serde_json::from_slice(question).ok()?;
        self.0.iter().find(|answerer| answerer.ask == named.ask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
    struct Echo {
        times: usize,
    }

    impl Question for Echo {
        const ASK: &'static str = "echo";
        type Answer = String;
        const ANSWER: &'static str = "heard";
    }

    fn answerers() -> QuestionHandlers {
        let echo =
            |_, Echo { times }| if times == 0 { anyhow::bail!("silence") } else { Ok("x".repeat(times)) };
        QuestionHandlers(vec![QuestionHandler::new(echo)])
    }

    #[test]
    fn what_is_asked_is_answered_under_its_name() {
        let asked = encode(&Echo { times: 2 }).unwrap();
        assert_eq!(asked, br#"{"ask":"echo","times":2}"#);
        let answer = answerers().answer(None, &asked);
        assert_eq!(answer, br#"{"heard":"xx"}"#);
        assert_eq!(decode::<Echo>(&answer), Ok("xx".to_owned()));
        let asked_with_more = br#"{"ask":"echo","more":1,"times":2}"#;
        assert_eq!(answerers().read(asked_with_more).unwrap(), asked, "only what it consists of is sent on");
        for wrong in
            [&b"{"[..], br#"{"ask":"echo"}"#, br#"{"ask":"echo","times":"2"}"#, br#"{"ask":"dance"}"#]
        {
            let why = answerers().read(wrong).unwrap_err().to_string();
            assert!(why.starts_with("not understood: "), "{why}");
        }
    }

    #[test]
    fn a_question_that_is_nonsense_or_asks_for_too_much_is_refused() {
        for question in
            [&b"{"[..], br#"{"ask":"echo"}"#, br#"{"ask":"dance"}"#, br#"{"ask":"echo","times":0}"#]
        {
            let answer = answerers().answer(None, question);
            assert!(matches!(decode::<Echo>(&answer), Err(NoAnswer::Refused(_))), "{question:?}");
        }
        let long = answerers().answer(None, &encode(&Echo { times: 2 * ANSWER_MAX }).unwrap());
        assert!(long.len() <= ANSWER_MAX && matches!(decode::<Echo>(&long), Err(NoAnswer::Refused(_))));
        for answer in [&b"{"[..], br#"{"said":"xx"}"#, br#"{"heard":2}"#] {
            assert_eq!(decode::<Echo>(answer), Err(NoAnswer::NotUnderstood));
        }
    }
}
