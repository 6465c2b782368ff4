//! The linearizability checker against brute force, and against histories that are known to be wrong.

use proptest::prelude::*;
use testudo_sim::linear::{History, Linearity, Model, Operation, check, explains};
use testudo_sim::service::{Answer, Ask, KeyModel};

type Log = History<KeyModel>;

fn at(client: usize, called: u64, returned: u64, input: Ask, output: Answer) -> Log {
    vec![Operation { client, input, called, returned: Some((returned, output)) }]
}
fn put(value: &str) -> Ask {
    Ask::Put { key: "k".into(), value: value.into() }
}
fn get() -> Ask {
    Ask::Get { key: "k".into() }
}
fn append(token: &str) -> Ask {
    Ask::Append { key: "k".into(), token: token.into() }
}
fn cas(expected: Option<&str>, value: &str) -> Ask {
    Ask::Cas { key: "k".into(), expected: expected.map(Into::into), value: value.into() }
}
fn value(value: &str) -> Answer {
    Answer::Value(Some(value.into()))
}

#[track_caller]
fn convicted(history: &[Log]) {
    let history = history.concat();
    assert!(matches!(check(&KeyModel, &history), Linearity::Broken(_)), "{history:?}");
    assert!(!brute(&history));
}
#[track_caller]
fn acquitted(history: &[Log]) {
    let history = history.concat();
    assert_eq!(check(&KeyModel, &history), Linearity::Holds);
    assert!(brute(&history));
}

#[test]
fn a_stale_read_is_convicted() {
    convicted(&[
        at(1, 0, 1, put("a"), Answer::Done),
        at(1, 2, 3, put("b"), Answer::Done),
        at(2, 4, 5, get(), value("a")),
    ]);
}

#[test]
fn a_lost_update_is_convicted() {
    convicted(&[
        at(1, 0, 1, append("a"), Answer::Done),
        at(2, 2, 3, append("b"), Answer::Done),
        at(3, 4, 5, get(), value("b")),
    ]);
    convicted(&[
        at(1, 0, 5, cas(None, "a"), Answer::Swapped(true)),
        at(2, 0, 5, cas(None, "b"), Answer::Swapped(true)),
    ]);
}

#[test]
fn new_then_old_is_convicted() {
    let write = at(1, 0, 10, put("new"), Answer::Done);
    convicted(&[
        write.clone(),
        at(2, 1, 2, get(), value("new")),
        at(3, 3, 4, get(), Answer::Value(None)),
    ]);
    acquitted(&[write, at(2, 1, 3, get(), value("new")), at(3, 2, 4, get(), Answer::Value(None))]);
}

#[test]
fn double_execution_is_convicted() {
    convicted(&[at(1, 0, 1, append("a"), Answer::Done), at(2, 2, 3, get(), value("aa"))]);
    let pending = vec![Operation { client: 1, input: append("a"), called: 0, returned: None }];
    acquitted(&[pending.clone(), at(2, 2, 3, get(), value("a"))]);
    acquitted(&[pending.clone(), at(2, 2, 3, get(), Answer::Value(None))]);
    convicted(&[pending.clone(), at(2, 2, 3, get(), value("aa"))]);
    convicted(&[pending, at(2, 2, 3, get(), value("a")), at(2, 4, 5, get(), Answer::Value(None))]);
}

#[test]
fn an_effect_of_a_panicking_operation_is_convicted() {
    let panic = Ask::Panic { key: "k".into() };
    acquitted(&[
        at(1, 0, 1, panic.clone(), Answer::Internal),
        at(1, 2, 3, get(), Answer::Value(None)),
    ]);
    convicted(&[
        at(1, 0, 1, panic, Answer::Internal),
        at(1, 2, 3, get(), value("never to be seen")),
    ]);
}

#[test]
fn keys_are_judged_apart_and_together() {
    let other = |value: &str| Ask::Put { key: "other".into(), value: value.into() };
    acquitted(&[
        at(1, 0, 1, put("a"), Answer::Done),
        at(2, 0, 1, other("b"), Answer::Done),
        at(1, 2, 3, get(), value("a")),
    ]);
    convicted(&[at(1, 0, 1, other("a"), Answer::Done), at(2, 2, 3, get(), value("a"))]);
}

#[test]
fn a_long_history_with_many_clients_is_decided_quickly() {
    let mut history = Vec::new();
    for round in 0..200_u64 {
        for client in 0..6 {
            let token = format!("{}", round * 6 + client);
            let called = round * 10 + client;
            history.push(Operation {
                client: client as usize,
                input: put(&token),
                called,
                returned: Some((round * 10 + 9, Answer::Done)),
            });
        }
    }
    assert_eq!(check(&KeyModel, &history), Linearity::Holds);
}

/// Several keys at once.
#[derive(Clone, Debug)]
enum Many {
    Set(Vec<(&'static str, u8)>),
    Get(Vec<&'static str>),
}

struct Table;

impl Model for Table {
    type State = std::collections::BTreeMap<&'static str, u8>;
    type Input = Many;
    type Output = Vec<u8>;
    type Part = &'static str;

    fn initial(&self, _: &&'static str) -> Self::State {
        Self::State::new()
    }
    fn part(&self, input: &Many) -> &'static str {
        self.joins(input)[0]
    }
    fn joins(&self, input: &Many) -> Vec<&'static str> {
        match input {
            Many::Set(pairs) => pairs.iter().map(|(key, _)| *key).collect(),
            Many::Get(keys) => keys.clone(),
        }
    }
    fn step(&self, state: &Self::State, input: &Many) -> (Self::State, Vec<u8>) {
        match input {
            Many::Set(pairs) => {
                let mut state = state.clone();
                state.extend(pairs.iter().copied());
                (state, Vec::new())
            }
            Many::Get(keys) => {
                let value = |key: &&'static str| state.get(key).copied().unwrap_or_default();
                (state.clone(), keys.iter().map(value).collect())
            }
        }
    }
}

fn many(called: u64, returned: u64, input: Many, output: &[u8]) -> Operation<Many, Vec<u8>> {
    Operation { client: 0, input, called, returned: Some((returned, output.to_vec())) }
}

#[test]
fn what_one_operation_joins_is_judged_together() {
    let write = |one, other| Many::Set(vec![("a", one), ("b", other)]);
    let read = |key| Many::Get(vec![key]);
    // The two halves of one transaction are seen at different times: each key by itself is as it should be.
    let torn = vec![
        many(0, 10, write(1, 1), &[]),
        many(1, 2, read("b"), &[1]),
        many(3, 4, read("a"), &[0]),
    ];
    assert!(matches!(check(&Table, &torn), Linearity::Broken(_)));
    let apart = vec![
        many(0, 10, Many::Set(vec![("a", 1)]), &[]),
        many(0, 10, Many::Set(vec![("b", 1)]), &[]),
        many(1, 2, read("b"), &[1]),
        many(3, 4, read("a"), &[0]),
    ];
    assert_eq!(check(&Table, &apart), Linearity::Holds);
    // A read of both joins them, and through it a third.
    let both = |at, one, other| many(at, at + 1, Many::Get(vec!["a", "b"]), &[one, other]);
    let chain = |last| {
        let third = many(0, 10, Many::Set(vec![("b", 2), ("c", 2)]), &[]);
        vec![apart[0].clone(), third, both(1, 0, 2), many(3, 4, read("c"), &[last])]
    };
    assert_eq!(check(&Table, &chain(2)), Linearity::Holds);
    assert!(matches!(check(&Table, &chain(0)), Linearity::Broken(_)));
}

/// Every order of every choice of operations, tried: answered ones all, unanswered ones or not.
fn brute(history: &Log) -> bool {
    let mut keys: Vec<String> = history.iter().map(|op| op.input.key().into()).collect();
    keys.sort();
    keys.dedup();
    keys.iter().all(|key| {
        let part: Vec<_> = history.iter().filter(|op| op.input.key() == key).collect();
        extend(&part, &mut vec![false; part.len()], &None)
    })
}

fn extend(part: &[&Operation<Ask, Answer>], taken: &mut Vec<bool>, state: &Option<String>) -> bool {
    let is_done = part.iter().zip(&*taken).all(|(op, taken)| *taken || op.returned.is_none());
    if is_done {
        return true;
    }
    for index in 0..part.len() {
        let is_first = !taken[index]
            && part.iter().zip(&*taken).all(|(other, taken)| {
                *taken || other.returned.as_ref().is_none_or(|(at, _)| *at >= part[index].called)
            });
        if !is_first {
            continue;
        }
        let (after, output) = KeyModel.step(state, &part[index].input);
        if part[index].returned.as_ref().is_none_or(|(_, seen)| *seen == output) {
            taken[index] = true;
            if extend(part, taken, &after) {
                return true;
            }
            taken[index] = false;
        }
    }
    false
}

fn input() -> impl Strategy<Value = Ask> {
    let key = prop_oneof![4 => Just("k"), 1 => Just("m")];
    (key, 0..4_u8, 0..3_u8, 0..3_u8).prop_map(|(key, kind, a, b)| {
        let key = key.to_string();
        match kind {
            0 => Ask::Get { key },
            1 => Ask::Put { key, value: a.to_string() },
            2 => Ask::Cas { key, expected: (b > 0).then(|| b.to_string()), value: a.to_string() },
            _ => Ask::Append { key, token: a.to_string() },
        }
    })
}

/// Operations with times, and a hint that makes answers that are often right: the order of taking effect.
fn history() -> impl Strategy<Value = Log> {
    let one = (input(), 0..20_u64, 1..10_u64, 0..10_u8, any::<u8>());
    prop::collection::vec(one, 1..7).prop_map(|mut raw| {
        raw.sort_by_key(|(_, called, length, _, _)| called + length / 2);
        let mut states = std::collections::BTreeMap::<String, Option<String>>::new();
        let mut history = Vec::new();
        for (client, (input, called, length, luck, noise)) in raw.into_iter().enumerate() {
            let state = states.entry(input.key().into()).or_default();
            let (after, output) = KeyModel.step(state, &input);
            *state = after;
            let output = match (luck, &output) {
                (0, Answer::Value(_)) => Answer::Value(Some((noise % 3).to_string())),
                (0, Answer::Swapped(swapped)) => Answer::Swapped(!swapped),
                _ => output,
            };
            let returned = (luck != 1).then_some((called + length, output));
            history.push(Operation { client, input, called, returned });
        }
        history
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_checker_agrees_with_brute_force(history in history()) {
        prop_assert_eq!(check(&KeyModel, &history).holds(), brute(&history));
    }

    /// A guess may miss what is right, and never covers what is wrong.
    #[test]
    fn no_guess_explains_what_brute_force_does_not(
        (history, order) in history().prop_flat_map(|history| {
            let order: Vec<usize> = (0..history.len()).collect();
            (Just(history), prop_oneof![Just(order.clone()), Just(order).prop_shuffle()])
        })
    ) {
        let answered = order.into_iter().filter(|index| history[*index].returned.is_some());
        if explains(&KeyModel, &history, &answered.collect::<Vec<_>>()) {
            prop_assert!(brute(&history));
        }
    }
}

/// Forty operations that nobody was told of would keep the search busy for ever.
#[test]
fn a_guess_saves_the_search() {
    let lost = |number: u64| Operation {
        client: 100 + number as usize,
        input: put(&format!("lost {number}")),
        called: number,
        returned: None,
    };
    let mut history: Log = (0..40).map(lost).collect();
    for number in 0..40 {
        let (called, returned) = (100 + 4 * number, 103 + 4 * number);
        history.extend(at(1, called, returned, get(), value(&format!("lost {}", 39 - number))));
    }
    let order: Vec<usize> = (40..80).collect();
    assert!(explains(&KeyModel, &history, &order));
    let backwards: Vec<usize> = order.iter().rev().copied().collect();
    assert!(!explains(&KeyModel, &history, &backwards), "it does not keep to time");
    assert!(!explains(&KeyModel, &history, &order[1..]), "an answer is left out");
    let mut twice = order.clone();
    twice.push(40);
    assert!(!explains(&KeyModel, &history, &twice));
    history[41].returned = Some((200, value("nothing that was ever written")));
    assert!(!explains(&KeyModel, &history, &order));
}
