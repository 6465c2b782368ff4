//! Puts, gets, deletes and runs transactions through the `etcd-client` crate, and checks every answer.
//!
//! `testudo-compat-etcd-client ENDPOINT`

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
};

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

async fn cluster(client: &mut Client) -> Result<(), Error> {
    let status = client.status().await?;
    let members = client.member_list().await?;
    assert!(members.members().iter().any(|member| member.id() == status.leader()), "the leader is a member");
    Ok(())
}
