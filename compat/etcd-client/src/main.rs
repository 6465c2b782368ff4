//! Puts, gets, deletes, runs transactions, watches, holds leases and compacts through the `etcd-client` crate, and checks
//! every answer.
//!
//! `testudo-compat-etcd-client ENDPOINT`

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions, LeaseTimeToLiveOptions, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, WatchOptions, WatchStream,
};
use std::time::Duration;
use tokio::time::timeout;

/// How long an event may be on its way.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() {
    let Some(endpoint) = std::env::args().nth(1) else {
        eprintln!("usage: testudo-compat-etcd-client ENDPOINT");
        std::process::exit(2);
    };
    match run(&endpoint).await {
        Ok(()) => println!("etcd-client: all answers are right"),
        Err(error) => {
            eprintln!("etcd-client: {error}");
            std::process::exit(1);
        }
    }
}

async fn run(endpoint: &str) -> Result<(), Error> {
    let mut client = Client::connect([endpoint], None).await?;
    puts_and_gets(&mut client).await?;
    ranges(&mut client).await?;
    transactions(&mut client).await?;
    errors(&mut client).await?;
    watches(&mut client).await?;
    leases(&mut client).await?;
    compaction(&mut client).await?;
    cluster(&mut client).await
}

async fn puts_and_gets(client: &mut Client) -> Result<(), Error> {
    client.delete("compat/", Some(DeleteOptions::new().with_prefix())).await?;
    let first = client.put("compat/a", "one", None).await?;
    let revision = first.header().expect("a header").revision();
    let second = client.put("compat/a", "two", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(second.prev_key().expect("a previous value").value(), b"one");
    assert_eq!(second.header().expect("a header").revision(), revision + 1);

    let now = client.get("compat/a", None).await?;
    let kv = now.kvs().first().expect("the key is there");
    assert_eq!((kv.value(), kv.version(), kv.create_revision()), (&b"two"[..], 2, revision));
    let then = client.get("compat/a", Some(GetOptions::new().with_revision(revision))).await?;
    assert_eq!(then.kvs().first().expect("the key was there").value(), b"one");

    let deleted = client.delete("compat/a", Some(DeleteOptions::new().with_prev_key())).await?;
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (1, 1));
    assert_eq!(client.get("compat/a", None).await?.kvs().len(), 0);
    Ok(())
}

async fn ranges(client: &mut Client) -> Result<(), Error> {
    for number in 0..10 {
        client.put(format!("compat/r{number}"), format!("{number}"), None).await?;
    }
    let some = GetOptions::new().with_prefix().with_limit(3).with_sort(SortTarget::Key, SortOrder::Descend);
    let some = client.get("compat/r", Some(some)).await?;
    let keys: Vec<_> = some.kvs().iter().map(|kv| kv.key()).collect();
    assert_eq!(keys, [b"compat/r9", b"compat/r8", b"compat/r7"]);
    assert_eq!((some.count(), some.more()), (10, true));
    let count = client.get("compat/r", Some(GetOptions::new().with_prefix().with_count_only())).await?;
    assert_eq!((count.count(), count.kvs().len()), (10, 0));
    Ok(())
}

async fn transactions(client: &mut Client) -> Result<(), Error> {
    let create = || {
        Txn::new()
            .when([Compare::create_revision("compat/t", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("compat/t", "mine", None)])
            .or_else([TxnOp::get("compat/t", None)])
    };
    assert!(client.txn(create()).await?.succeeded());
    let refused = client.txn(create()).await?;
    assert!(!refused.succeeded());
    assert_eq!(refused.op_responses().len(), 1);
    Ok(())
}

async fn errors(client: &mut Client) -> Result<(), Error> {
    let twice = Txn::new().and_then([TxnOp::put("compat/d", "1", None), TxnOp::put("compat/d", "2", None)]);
    let told = client.txn(twice).await.expect_err("a key is put twice");
    assert!(told.to_string().contains("etcdserver: duplicate key given in txn request"), "{told}");
    let told = client.put("", "value", None).await.expect_err("there is no key");
    assert!(told.to_string().contains("etcdserver: key is not provided"), "{told}");
    let future = GetOptions::new().with_revision(i64::MAX);
    let told = client.get("compat/a", Some(future)).await.expect_err("that is the future");
    assert!(told.to_string().contains("etcdserver: mvcc: required revision is a future revision"), "{told}");
    Ok(())
}

/// An event as the checks look at it: what happened, to which key, which value it has and had.
type Seen = (EventType, Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// The next so many events of a stream.
async fn events(stream: &mut WatchStream, count: usize) -> Result<Vec<Seen>, Error> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let answer = timeout(PATIENCE, stream.message()).await.expect("an event in time")?;
        for event in answer.expect("the stream goes on").events() {
            let kv = event.kv().expect("an event has a key");
            let before = event.prev_kv().map(|kv| kv.value().to_vec());
            seen.push((event.event_type(), kv.key().to_vec(), kv.value().to_vec(), before));
        }
    }
    assert_eq!(seen.len(), count, "more events than there can be: {seen:?}");
    Ok(seen)
}

async fn watches(client: &mut Client) -> Result<(), Error> {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream = client.watch("compat/w", Some(options)).await?;
    let put = |key: &str, value: &str, before: Option<&str>| {
        (EventType::Put, key.into(), value.into(), before.map(|it| it.as_bytes().to_vec()))
    };
    let first = client.put("compat/w1", "one", None).await?.header().expect("a header").revision();
    client.put("compat/other", "not watched", None).await?;
    client.put("compat/w2", "two", None).await?;
    client.put("compat/w1", "three", None).await?;
    client.delete("compat/w1", None).await?;
    let deletion = (EventType::Delete, b"compat/w1".to_vec(), Vec::new(), Some(b"three".to_vec()));
    let story = [
        put("compat/w1", "one", None),
        put("compat/w2", "two", None),
        put("compat/w1", "three", Some("one")),
        deletion,
    ];
    assert_eq!(events(&mut stream, 4).await?, story);
    // What is past is told again to who asks for it.
    let options = WatchOptions::new().with_prefix().with_prev_key().with_start_revision(first);
    let mut again = client.watch("compat/w", Some(options)).await?;
    assert_eq!(events(&mut again, 4).await?, story);
    Ok(())
}

async fn leases(client: &mut Client) -> Result<(), Error> {
    let lease = client.lease_grant(60, None).await?;
    assert_eq!(lease.ttl(), 60);
    let on_it = || Some(PutOptions::new().with_lease(lease.id()));
    client.put("compat/l1", "held", on_it()).await?;
    client.put("compat/l2", "held", on_it()).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease.id()).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        let answer = timeout(PATIENCE, answers.message()).await.expect("an answer in time")?;
        assert_eq!(answer.expect("the stream goes on").ttl(), 60);
    }
    let options = Some(LeaseTimeToLiveOptions::new().with_keys());
    let left = client.lease_time_to_live(lease.id(), options).await?;
    assert!((1..=60).contains(&left.ttl()) && left.granted_ttl() == 60, "{left:?}");
    assert_eq!(left.keys().len(), 2);
    let all = client.leases().await?;
    assert!(all.leases().iter().any(|held| held.id() == lease.id()));

    let mut stream = client.watch("compat/l", Some(WatchOptions::new().with_prefix())).await?;
    client.lease_revoke(lease.id()).await?;
    let deleted: Vec<_> = events(&mut stream, 2).await?.into_iter().map(|(kind, key, ..)| (kind, key)).collect();
    assert_eq!(deleted, ["compat/l1", "compat/l2"].map(|key| (EventType::Delete, key.as_bytes().to_vec())));
    let told = client.lease_revoke(lease.id()).await.expect_err("it is gone");
    assert!(told.to_string().contains("etcdserver: requested lease not found"), "{told}");

    let short = client.lease_grant(2, None).await?;
    let options = Some(PutOptions::new().with_lease(short.id()));
    client.put("compat/l3", "for a while", options).await?;
    let (kind, key, ..) = events(&mut stream, 2).await?.pop().expect("two of them");
    assert_eq!((kind, key), (EventType::Delete, b"compat/l3".to_vec()), "it expires");
    Ok(())
}

async fn compaction(client: &mut Client) -> Result<(), Error> {
    let mut last = 0;
    for value in ["one", "two", "three"] {
        last = client.put("compat/c", value, None).await?.header().expect("a header").revision();
    }
    client.compact(last - 1, None).await?;
    let told = client.get("compat/c", Some(GetOptions::new().with_revision(last - 2))).await;
    let told = told.expect_err("that is forgotten");
    assert!(told.to_string().contains("etcdserver: mvcc: required revision has been compacted"), "{told}");
    let kept = client.get("compat/c", Some(GetOptions::new().with_revision(last - 1))).await?;
    assert_eq!(kept.kvs().first().expect("the key was there").value(), b"two");
    let told = client.compact(last - 1, None).await.expect_err("it is done");
    assert!(told.to_string().contains("required revision has been compacted"), "{told}");
    Ok(())
}

async fn cluster(client: &mut Client) -> Result<(), Error> {
    let status = client.status().await?;
    let members = client.member_list().await?;
    assert!(members.members().iter().any(|member| member.id() == status.leader()), "the leader is a member");
    Ok(())
}
