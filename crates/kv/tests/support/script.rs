//! Operations and answers as text.
//!
//! ```text
//! put KEY=VALUE [lease=N] [prev] [ignore_value] [ignore_lease]
//! get KEY | range KEYS [rev=N] [limit=N] [sort=TARGET:ORDER] [keys_only] [count_only]
//!                      [min_mod=N] [max_mod=N] [min_create=N] [max_create=N]
//! del KEYS [prev]
//! txn [if COMPARE ...] [then { REQUEST ; ... }] [else { REQUEST ; ... }]
//! none | status | raw HEX
//! compact REVISION
//! grant LEASE ttl=SECONDS | revoke LEASE | keepalive LEASE | ttl LEASE [keys] | leases
//! store [quota=BYTES] [revisions=N] [period=MILLISECONDS]
//! pass MILLISECONDS | pass MILLISECONDS+slack
//! changes FROM
//! ```
//!
//! `store` begins with another store of these settings, `pass` lets time pass, with the slack that leases have if that
//! is wanted, and `changes` shows what revisions did, as watchers see it.
//!
//! KEYS is `a` (one key), `a..d` (from a up to d), `a..` (from a on), `a*` (the prefix a) or `*` (all). COMPARE is
//! `ver(KEYS)=N`, and so on for `create`, `mod`, `value` and `lease`, and for `!=`, `>` and `<`; `=?` gives no
//! operand. In keys and values `\xNN` is a byte, `_` is nothing and `~N` is N bytes of z. `N*` before a compare or a
//! request stands for N of them, with `#` in each replaced by its number.

use crate::instance::Instance;
use std::fmt::Write;
use testudo_core::Decode;
use testudo_kv::{
    AutoCompaction, Bytes, Change, Compact, Compare, CompareTarget, DeleteRange, KeyValue,
    LeaseGrant, LeaseGrantResponse, LeaseKeepAlive, LeaseKeepAliveResponse, LeaseRevoke,
    LeaseTimeToLive, LeaseTimeToLiveResponse, Operand, Operation, Put, Range, Relation, RequestOp,
    Response, ResponseOp, SLACK, Settings, SortOrder, SortTarget, StatusResponse, Txn, changes,
    record_before,
};

/// What one line of a script executes.
pub(crate) enum Command {
    Operation(Operation),
    Raw(Vec<u8>),
    /// Begin anew.
    Store(Settings),
    /// Let milliseconds pass.
    Pass(u64),
    /// Show what the revisions from this one on did.
    Changes(i64),
}

pub(crate) fn parse(line: &str) -> Command {
    let tokens: Vec<&str> = line.split_whitespace().collect();
    match tokens[..] {
        ["status"] => Command::Operation(Operation::Status),
        ["store", ..] => Command::Store(settings(&tokens[1..])),
        ["pass", time] => Command::Pass(match time.strip_suffix("+slack") {
            Some(time) => number(time) as u64 + SLACK,
            None => number(time) as u64,
        }),
        ["changes", from] => Command::Changes(number(from)),
        ["compact", revision] => {
            let compact = Compact { revision: number(revision), physical: false };
            Command::Operation(Operation::Compact(compact))
        }
        ["grant" | "revoke" | "keepalive" | "ttl" | "leases", ..] => {
            Command::Operation(lease(&tokens))
        }
        ["raw", hex] => Command::Raw(
            (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect(),
        ),
        _ => Command::Operation(match request(&tokens) {
            RequestOp::Range(range) => Operation::Range(range),
            RequestOp::Put(put) => Operation::Put(put),
            RequestOp::DeleteRange(delete) => Operation::DeleteRange(delete),
            RequestOp::Txn(txn) => Operation::Txn(txn),
            RequestOp::None => panic!("`none` is for transactions"),
        }),
    }
}

fn settings(tokens: &[&str]) -> Settings {
    let mut settings = Settings::default();
    for token in tokens {
        let (name, given) = token.split_once('=').expect("NAME=NUMBER");
        let given = number(given) as u64;
        match name {
            "quota" => settings.quota = given,
            "revisions" => settings.compaction = AutoCompaction::Revisions(given),
            "period" => settings.compaction = AutoCompaction::Period { milliseconds: given },
            other => panic!("no such setting: {other}"),
        }
    }
    settings
}

fn lease(tokens: &[&str]) -> Operation {
    let id = |id: &str| number(id);
    match tokens {
        ["grant", lease, ttl] => {
            let ttl = number(ttl.strip_prefix("ttl=").expect("ttl=SECONDS"));
            Operation::LeaseGrant(LeaseGrant { id: id(lease), ttl })
        }
        ["revoke", lease] => Operation::LeaseRevoke(LeaseRevoke { id: id(lease) }),
        ["keepalive", lease] => Operation::LeaseKeepAlive(LeaseKeepAlive { id: id(lease) }),
        ["ttl", lease, rest @ ..] => {
            let keys = rest.contains(&"keys");
            Operation::LeaseTimeToLive(LeaseTimeToLive { id: id(lease), keys })
        }
        ["leases"] => Operation::LeaseLeases,
        other => panic!("no such command of leases: {other:?}"),
    }
}

fn request(tokens: &[&str]) -> RequestOp {
    let (verb, rest) = tokens.split_first().expect("a verb");
    match *verb {
        "none" => RequestOp::None,
        "get" | "range" => RequestOp::Range(range(rest)),
        "put" => RequestOp::Put(put(rest)),
        "del" => {
            let (key, range_end) = keys(rest[0]);
            RequestOp::DeleteRange(DeleteRange { key, range_end, prev_kv: rest.contains(&"prev") })
        }
        "txn" => RequestOp::Txn(txn(rest)),
        other => panic!("no such verb: {other}"),
    }
}

fn range(tokens: &[&str]) -> Range {
    let (key, range_end) = keys(tokens[0]);
    let mut range = Range { key, range_end, ..Range::default() };
    for option in &tokens[1..] {
        match option.split_once('=') {
            None if *option == "keys_only" => range.keys_only = true,
            None if *option == "count_only" => range.count_only = true,
            None if *option == "serializable" => range.serializable = true,
            Some(("rev", n)) => range.revision = number(n),
            Some(("limit", n)) => range.limit = number(n),
            Some(("min_mod", n)) => range.min_mod_revision = number(n),
            Some(("max_mod", n)) => range.max_mod_revision = number(n),
            Some(("min_create", n)) => range.min_create_revision = number(n),
            Some(("max_create", n)) => range.max_create_revision = number(n),
            Some(("sort", sort)) => {
                let (target, order) = sort.split_once(':').expect("TARGET:ORDER");
                range.sort_target =
                    SortTarget(code(target, &["key", "ver", "create", "mod", "value"]));
                range.sort_order = SortOrder(code(order, &["none", "asc", "desc"]));
            }
            _ => panic!("no such option of a range: {option}"),
        }
    }
    range
}

fn put(tokens: &[&str]) -> Put {
    let (key, value) = tokens[0].split_once('=').unwrap_or((tokens[0], ""));
    let mut put = Put { key: bytes(key), value: bytes(value), ..Put::default() };
    for option in &tokens[1..] {
        match option.split_once('=') {
            None if *option == "prev" => put.prev_kv = true,
            None if *option == "ignore_value" => put.ignore_value = true,
            None if *option == "ignore_lease" => put.ignore_lease = true,
            Some(("lease", n)) => put.lease = number(n),
            _ => panic!("no such option of a put: {option}"),
        }
    }
    put
}

fn txn(tokens: &[&str]) -> Txn {
    let mut txn = Txn::default();
    let mut rest = tokens;
    while let Some((word, tail)) = rest.split_first() {
        let length = if *word == "if" {
            let until = tail.iter().position(|token| matches!(*token, "then" | "else"));
            let length = until.unwrap_or(tail.len());
            txn.compare =
                repeated(tail[..length].chunks(1)).iter().map(|one| compare(&one[0])).collect();
            length
        } else {
            let length = block(tail);
            let inner = &tail[1..length - 1];
            let requests = repeated(statements(inner).into_iter())
                .iter()
                .map(|one| request(&one.iter().map(String::as_str).collect::<Vec<_>>()))
                .collect();
            match *word {
                "then" => txn.success = requests,
                "else" => txn.failure = requests,
                other => panic!("no such part of a transaction: {other}"),
            }
            length
        };
        rest = &tail[length..];
    }
    txn
}

/// How many tokens a block takes up, its braces included.
fn block(tokens: &[&str]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        depth += i32::from(*token == "{") - i32::from(*token == "}");
        if depth == 0 {
            return at + 1;
        }
    }
    panic!("a block without its end")
}

/// What stands between the semicolons that are in no inner block.
fn statements<'a, 'b>(tokens: &'a [&'b str]) -> Vec<&'a [&'b str]> {
    let mut depth = 0;
    let split = tokens.split(|token| {
        depth += i32::from(*token == "{") - i32::from(*token == "}");
        depth == 0 && *token == ";"
    });
    split.filter(|statement| !statement.is_empty()).collect()
}

/// Writes out what `N*` stands for.
fn repeated<'a, 'b: 'a>(items: impl Iterator<Item = &'a [&'b str]>) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for item in items {
        let (count, first) = match item[0].split_once('*') {
            Some((count, first)) if count.parse::<usize>().is_ok() => {
                (count.parse().unwrap(), first)
            }
            _ => (1, item[0]),
        };
        for index in 0..count {
            let replaced = std::iter::once(&first).chain(&item[1..]);
            all.push(replaced.map(|token| token.replace('#', &index.to_string())).collect());
        }
    }
    all
}

fn compare(text: &str) -> Compare {
    let (target, rest) = text.split_once('(').expect("TARGET(KEYS)");
    let (spoken_of, rest) = rest.split_once(')').expect("TARGET(KEYS)");
    let (key, range_end) = keys(spoken_of);
    let (relation, given) = [("!=", 3), ("=", 0), (">", 1), ("<", 2)]
        .iter()
        .find_map(|(sign, code)| Some((*code, rest.strip_prefix(sign)?)))
        .expect("a relation");
    let target = code(target, &["ver", "create", "mod", "value", "lease"]);
    let operand = match (given, target) {
        ("?", _) => Operand::None,
        (_, 0) => Operand::Version(number(given)),
        (_, 1) => Operand::Create(number(given)),
        (_, 2) => Operand::Mod(number(given)),
        (_, 3) => Operand::Value(bytes(given)),
        _ => Operand::Lease(number(given)),
    };
    Compare { relation: Relation(relation), target: CompareTarget(target), key, range_end, operand }
}

fn keys(text: &str) -> (Bytes, Bytes) {
    if text == "*" {
        return ([0].into(), [0].into());
    }
    if let Some(prefix) = text.strip_suffix('*') {
        let prefix = bytes(prefix);
        let mut end = prefix.to_vec();
        while end.pop_if(|last| *last == 0xff).is_some() {}
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end.push(0),
        }
        return (prefix, end.into());
    }
    match text.split_once("..") {
        Some((key, "")) => (bytes(key), [0].into()),
        Some((key, end)) => (bytes(key), bytes(end)),
        None => (bytes(text), Bytes::default()),
    }
}

fn bytes(text: &str) -> Bytes {
    if text == "_" {
        return Bytes::default();
    }
    if let Some(length) = text.strip_prefix('~') {
        return vec![b'z'; length.parse().unwrap()].into();
    }
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("\\x") {
        out.extend_from_slice(before.as_bytes());
        out.push(u8::from_str_radix(&after[..2], 16).unwrap());
        rest = &after[2..];
    }
    out.extend_from_slice(rest.as_bytes());
    out.into()
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// The place of a name among those that exist; or a number, to name one that does not.
fn code(text: &str, names: &[&str]) -> i32 {
    let place = names.iter().position(|name| *name == text);
    place.map_or_else(|| number(text) as i32, |place| place as i32)
}

/// An answer as lines, each indented below its command.
pub(crate) fn print(response: &Response) -> String {
    let mut out = String::new();
    match response {
        Response::Range(range) => print_op(&ResponseOp::Range(range.clone()), "  ", &mut out),
        Response::Put(put) => print_op(&ResponseOp::Put(put.clone()), "  ", &mut out),
        Response::DeleteRange(delete) => {
            print_op(&ResponseOp::DeleteRange(delete.clone()), "  ", &mut out);
        }
        Response::Txn(txn) => print_op(&ResponseOp::Txn(txn.clone()), "  ", &mut out),
        Response::Status(status) => print_status(status, &mut out),
        Response::Compact(compact) => {
            let _ = writeln!(out, "  revision {} swept {}", compact.revision, compact.swept);
        }
        Response::LeaseGrant(LeaseGrantResponse { revision, id, ttl })
        | Response::LeaseKeepAlive(LeaseKeepAliveResponse { revision, id, ttl }) => {
            let _ = writeln!(out, "  revision {revision} lease {id} ttl {ttl}");
        }
        Response::LeaseRevoke(revoke) => {
            let _ = writeln!(out, "  revision {}", revoke.revision);
        }
        Response::LeaseTimeToLive(LeaseTimeToLiveResponse {
            revision,
            id,
            ttl,
            granted_ttl,
            keys,
        }) => {
            let _ = writeln!(out, "  revision {revision} lease {id} ttl {ttl} of {granted_ttl}");
            for key in keys {
                let _ = writeln!(out, "  {}", key.escape_ascii());
            }
        }
        Response::LeaseLeases(leases) => {
            let _ = writeln!(out, "  revision {} leases {:?}", leases.revision, leases.leases);
        }
        Response::Error(error) => {
            let _ = writeln!(out, "  error {} {error}", error.code());
        }
    }
    out
}

fn print_status(status: &StatusResponse, out: &mut String) {
    let StatusResponse { revision, keys, bytes, time, .. } = status;
    let _ = write!(out, "  revision {revision} keys {keys} bytes {bytes} time {time}");
    if status.compacted >= 0 {
        let _ = write!(out, " compacted {} swept {}", status.compacted, status.swept);
    }
    if status.quota != Settings::QUOTA {
        let _ = write!(out, " quota {}", status.quota);
    }
    let _ = writeln!(out, "{}", if status.alarm { " NOSPACE" } else { "" });
}

/// What has become of the store as time passed.
pub(crate) fn print_passed(kv: &Instance, happened: bool) -> String {
    let (revision, compacted) = (kv.kv.revision(&kv.store), kv.kv.compacted(&kv.store));
    let mut out = format!("  revision {revision}");
    if compacted >= 0 {
        let _ = write!(out, " compacted {compacted} swept {}", kv.kv.swept(&kv.store));
    }
    out.push_str(if happened { "" } else { " nothing happened" });
    out.push_str(match kv.due() {
        None => "\n",
        Some(0) => ", more is due\n",
        Some(_) => ", more will be due\n",
    });
    out
}

/// What revisions did, and what was before.
pub(crate) fn print_changes(kv: &Instance, from: i64) -> String {
    let read = |record: Bytes| KeyValue::from_bytes(&record).expect("a record");
    let mut out = String::new();
    changes(&kv.store, from, i64::MAX, &mut |Change { revision, key, record }| {
        match record.map(read) {
            Some(kv) => print_kv(&kv, &format!("  {revision} "), "put ", &mut out),
            None => {
                let _ = writeln!(out, "  {revision} deleted {}", key.escape_ascii());
            }
        }
        let before = record_before(&kv.store, &key, revision).map(read);
        before.iter().for_each(|kv| print_kv(kv, "    ", "was ", &mut out));
        true
    });
    out
}

fn print_op(response: &ResponseOp, indent: &str, out: &mut String) {
    match response {
        ResponseOp::Range(range) => {
            let more = if range.more { " more" } else { "" };
            let _ =
                writeln!(out, "{indent}revision {} count {}{more}", range.revision, range.count);
            range.kvs.iter().for_each(|kv| print_kv(kv, indent, "", out));
        }
        ResponseOp::Put(put) => {
            let _ = writeln!(out, "{indent}revision {}", put.revision);
            put.prev_kv.iter().for_each(|kv| print_kv(kv, indent, "was ", out));
        }
        ResponseOp::DeleteRange(delete) => {
            let _ =
                writeln!(out, "{indent}revision {} deleted {}", delete.revision, delete.deleted);
            delete.prev_kvs.iter().for_each(|kv| print_kv(kv, indent, "was ", out));
        }
        ResponseOp::Txn(txn) => {
            let branch = if txn.succeeded { "succeeded" } else { "failed" };
            let _ = writeln!(out, "{indent}revision {} {branch}", txn.revision);
            let indent = format!("{indent}  ");
            txn.responses.iter().for_each(|response| print_op(response, &indent, out));
        }
    }
}

fn print_kv(kv: &KeyValue, indent: &str, word: &str, out: &mut String) {
    let (key, value) = (kv.key.escape_ascii(), kv.value.escape_ascii());
    let (create, modified, version) = (kv.create_revision, kv.mod_revision, kv.version);
    let _ = write!(
        out,
        "{indent}{word}{key} = \"{value}\" create {create} mod {modified} version {version}"
    );
    let _ = if kv.lease == 0 { writeln!(out) } else { writeln!(out, " lease {}", kv.lease) };
}
