//! A small service to try orderings on, and the model of it that linearizability is judged by.
//!
//! It has what finds faults: `append`, which shows every effect that is lost or doubled; `cas`, whose answer depends on
//! all that went before; and `panic`, which must be undone and answered the same everywhere.

use crate::linear::Model;
use crate::rng::{Chance, Rng};
use std::fmt;
use std::sync::Arc;
use testudo_contracts::{Moment, Reading, Service, Store};
use testudo_core::{Decode, Encode, wire_enum};

/// An operation on one key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    /// Reads the value.
    Get {
        /// The key.
        key: String,
    },
    /// Sets the value.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Sets the value if it is as expected.
    Cas {
        /// The key.
        key: String,
        /// What it must be; none if there must be no value.
        expected: Option<String>,
        /// What it becomes.
        value: String,
    },
    /// Adds to the end of the value.
    Append {
        /// The key.
        key: String,
        /// What is added.
        token: String,
    },
    /// Writes nonsense and panics.
    Panic {
        /// The key.
        key: String,
    },
}
wire_enum!(Ask {
    0 => Get { key },
    1 => Put { key, value },
    2 => Cas { key, expected, value },
    3 => Append { key, token },
    4 => Panic { key },
});

/// An answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// The value, if there is one.
    Value(Option<String>),
    /// Whether the value was as expected.
    Swapped(bool),
    /// The operation panicked and was undone.
    Internal,
    /// The operation cannot be read.
    Malformed,
    /// It was not executed, as the answers would be too long.
    TooLarge,
}
wire_enum!(Answer {
    0 => Done,
    1 => Value(value),
    2 => Swapped(swapped),
    3 => Internal,
    4 => Malformed,
    5 => TooLarge,
});

impl Ask {
    /// The key that it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Get { key }
            | Self::Put { key, .. }
            | Self::Cas { key, .. }
            | Self::Append { key, .. }
            | Self::Panic { key } => key,
        }
    }

    /// The operation that a script's words ask for: `put k=v`, `get k`, `append k=v`, `cas k old=new` (`-` for no
    /// value), `panic k`.
    ///
    /// # Errors
    /// With a sentence, when they ask for none.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let pair = |text: &str| {
            let (one, other) = text.split_once('=').ok_or_else(|| format!("no = in {text}"))?;
            Ok::<_, String>((one.to_string(), other.to_string()))
        };
        Ok(match words {
            ["get", key] => Self::Get { key: (*key).into() },
            ["panic", key] => Self::Panic { key: (*key).into() },
            ["put", text] => {
                let (key, value) = pair(text)?;
                Self::Put { key, value }
            }
            ["append", text] => {
                let (key, token) = pair(text)?;
                Self::Append { key, token }
            }
            ["cas", key, text] => {
                let (old, value) = pair(text)?;
                let expected = (old != "-").then_some(old);
                Self::Cas { key: (*key).into(), expected, value }
            }
            _ => return Err(format!("no such request: {}", words.join(" "))),
        })
    }

    /// A random operation on one of `keys` keys. `token` is new, so that values tell who wrote them. Keys that begin
    /// with `l` are logs: nothing but appended to and read.
    pub fn drawn(keys: u64, token: u64, mix: Mix, rng: &mut Rng) -> Self {
        let number = rng.below(keys);
        if mix == Mix::Everything && rng.below(3) == 0 {
            let key = format!("l{number}");
            return match rng.below(3) {
                0 => Self::Get { key },
                _ => Self::Append { key, token: format!("{token},") },
            };
        }
        let key = format!("k{number}");
        let value = format!("v{token}");
        match (mix, rng.below(100)) {
            (_, 0..40) => Self::Get { key },
            (Mix::Registers, _) | (_, 40..70) => Self::Put { key, value },
            (_, 70..95) => {
                let expected = (rng.below(4) > 0).then(|| format!("v{}", rng.below(token + 1)));
                Self::Cas { key, expected, value }
            }
            _ => Self::Panic { key },
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get { key } => write!(f, "get {key}"),
            Self::Put { key, value } => write!(f, "put {key}={value}"),
            Self::Append { key, token } => write!(f, "append {key}={token}"),
            Self::Panic { key } => write!(f, "panic {key}"),
            Self::Cas { key, expected, value } => {
                write!(f, "cas {key} {}={value}", expected.as_deref().unwrap_or("-"))
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Value(None) => f.write_str("no value"),
            Self::Value(Some(value)) => write!(f, "value {value}"),
            Self::Swapped(true) => f.write_str("swapped"),
            Self::Swapped(false) => f.write_str("not swapped"),
            Self::Internal => f.write_str("internal error"),
            Self::Malformed => f.write_str("malformed"),
            Self::TooLarge => f.write_str("too large"),
        }
    }
}

/// Which operations a run does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mix {
    /// All kinds.
    Everything,
    /// Reads and writes alone, for systems that know no others.
    Registers,
}

/// The service.
#[derive(Clone, Copy, Default, Debug)]
pub struct KeyValues;

impl KeyValues {
    fn apply(store: &mut dyn Store, ask: Ask) -> Answer {
        let read = |store: &dyn Reading, key: &str| {
            store.get(key.as_bytes()).map(|value| String::from_utf8_lossy(&value).into_owned())
        };
        let write = |store: &mut dyn Store, key: &str, value: String| {
            store.put(key.as_bytes(), Arc::from(value.into_bytes()));
        };
        match ask {
            Ask::Get { key } => Answer::Value(read(store, &key)),
            Ask::Put { key, value } => {
                write(store, &key, value);
                Answer::Done
            }
            Ask::Cas { key, expected, value } => {
                let is_right = read(store, &key) == expected;
                if is_right {
                    write(store, &key, value);
                }
                Answer::Swapped(is_right)
            }
            Ask::Append { key, token } => {
                let value = read(store, &key).unwrap_or_default() + &token;
                write(store, &key, value);
                Answer::Done
            }
            Ask::Panic { key } => {
                write(store, &key, "never to be seen".into());
                panic!("an operation that panics, as asked");
            }
        }
    }
}

impl Service for KeyValues {
    const VERSION: u32 = 1;

    fn genesis(&self, _: &mut dyn Store) {}

    fn execute(&self, store: &mut dyn Store, operation: &[u8], _: &Moment) -> Vec<u8> {
        let answer = match Ask::from_bytes(operation) {
            Ok(ask) => Self::apply(store, ask),
            Err(_) => Answer::Malformed,
        };
        answer.to_bytes()
    }

    fn internal_error(&self) -> Vec<u8> {
        Answer::Internal.to_bytes()
    }

    fn too_large(&self) -> Vec<u8> {
        Answer::TooLarge.to_bytes()
    }
}

/// What the service ought to do, key by key.
#[derive(Clone, Copy, Default, Debug)]
pub struct KeyModel;

impl Model for KeyModel {
    type State = Option<String>;
    type Input = Ask;
    type Output = Answer;
    type Part = String;

    fn initial(&self, _: &String) -> Option<String> {
        None
    }
    fn part(&self, ask: &Ask) -> String {
        ask.key().into()
    }
    fn step(&self, state: &Option<String>, ask: &Ask) -> (Option<String>, Answer) {
        match ask {
            Ask::Get { .. } => (state.clone(), Answer::Value(state.clone())),
            Ask::Put { value, .. } => (Some(value.clone()), Answer::Done),
            Ask::Cas { expected, value, .. } if expected == state => {
                (Some(value.clone()), Answer::Swapped(true))
            }
            Ask::Cas { .. } => (state.clone(), Answer::Swapped(false)),
            Ask::Append { token, .. } => {
                (Some(state.clone().unwrap_or_default() + token), Answer::Done)
            }
            Ask::Panic { .. } => (state.clone(), Answer::Internal),
        }
    }
}
