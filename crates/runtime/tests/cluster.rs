//! Nodes of a toy protocol in this process, over real channels and real disks.

mod common;

use common::{Ask, Gossip, Site, Told, Word, replica, run, until};
use std::sync::Arc;
use std::time::Duration;
use testudo_core::{Peer, Position};
use testudo_keys::{NodeKey, SigningKey};
use testudo_runtime::caller::{CallerConfig, CallerHandle, call};
use testudo_runtime::{Lie, Probe, StartError};

#[test]
fn what_one_says_all_hear_itself_included() {
    for verifiers in [0, 1, 2] {
        let mut site = Site::new(4);
        site.verifiers = verifiers;
        let nodes = site.start_all();
        nodes[2].ask(Ask::Publish(7));
        nodes[1].ask(Ask::Whisper(replica(3), 8));
        nodes[3].ask(Ask::Whisper(replica(3), 9));
        for (id, node) in nodes.iter().enumerate() {
            until(&format!("{id} hears the news"), || node.has_heard(2, &Word::News(7)));
        }
        until("3 hears the whisper", || nodes[3].has_heard(1, &Word::Whisper(8)));
        until("3 hears itself", || nodes[3].has_heard(3, &Word::Whisper(9)));
        assert!(!nodes[0].has_heard(1, &Word::Whisper(8)));
        assert_eq!(nodes[2].told(), [Told::Published(7)]);
    }
}

#[test]
fn each_senders_order_is_kept() {
    let mut site = Site::new(4);
    let nodes = site.start_all();
    for number in 0..500 {
        // Signed ones and light ones take different ways through verification.
        nodes[0].ask(Ask::Publish(number));
        nodes[0].ask(Ask::Whisper(replica(1), number));
    }
    until("the last arrives", || nodes[1].has_heard(0, &Word::Whisper(499)));
    until("the last news arrives", || nodes[1].has_heard(0, &Word::News(499)));
    let heard: Vec<Word> = nodes[1].heard().into_iter().map(|(_, word)| word).collect();
    let news: Vec<_> = heard.iter().filter(|word| matches!(word, Word::News(_))).collect();
    let expected: Vec<Word> = (0..500).map(Word::News).collect();
    assert_eq!(news, expected.iter().collect::<Vec<_>>());
}

#[test]
fn a_node_that_was_gone_comes_back_with_its_records() {
    let mut site = Site::new(4);
    let mut nodes: Vec<_> = site.start_all().into_iter().map(Some).collect();
    nodes[0].as_ref().unwrap().ask(Ask::Publish(1));
    nodes[0].as_ref().unwrap().ask(Ask::Promise(5));
    nodes[0].as_ref().unwrap().ask(Ask::Note(2));
    until("1 hears", || nodes[1].as_ref().unwrap().has_heard(0, &Word::News(5)));
    nodes[0].take().unwrap().handle.shutdown();

    let node = site.start(0);
    let past = node.handle.inspect_blocking(|gossip| gossip.past.clone()).unwrap();
    assert_eq!(past.records, [(Position(0), 1), (Position(1), 2)]);
    assert_eq!(past.promise.unwrap().view.0, 5);
    assert!(past.lost.is_empty());
    node.ask(Ask::Publish(3));
    until("the others hear it again", || {
        nodes[1..].iter().flatten().all(|other| other.has_heard(0, &Word::News(3)))
    });
    nodes[2].as_ref().unwrap().ask(Ask::Publish(4));
    until("and it hears them", || node.has_heard(2, &Word::News(4)));
}

#[test]
fn a_snapshot_stands_for_records_that_are_forgotten() {
    let mut site = Site::new(1);
    let node = site.start(0);
    for number in 1..=3 {
        node.ask(Ask::Publish(number));
    }
    node.ask(Ask::Compact);
    node.ask(Ask::Publish(4));
    until("the snapshot is written", || {
        common::files(&site.data(0).join("log")).iter().any(|name| name.starts_with("snapshot"))
    });
    node.ask(Ask::Publish(5));
    until("all is published", || node.told().contains(&Told::Published(5)));
    node.handle.shutdown();

    let node = site.start(0);
    let (past, recorded) = node
        .handle
        .inspect_blocking(|gossip| (gossip.past.clone(), gossip.recorded.clone()))
        .unwrap();
    let snapshot = past.snapshot.unwrap();
    assert_eq!(snapshot.0, [1, 2, 3, 0]);
    // The snapshot was durable when the node ended; whether forgetting was, the crash decides.
    if past.records.len() == 2 {
        assert_eq!(past.records, [(Position(4), 4), (Position(5), 5)]);
        assert_eq!(recorded, [1, 2, 3, 0, 4, 5]);
    } else {
        assert_eq!(past.records.len(), 6);
    }
}

#[test]
fn a_record_is_read_back() {
    let mut site = Site::new(1);
    let node = site.start(0);
    node.ask(Ask::Note(11));
    node.ask(Ask::Note(12));
    node.ask(Ask::Recall(Position(1)));
    until("it comes back", || node.told().contains(&Told::Recalled(Position(1), 12)));
}

#[test]
fn a_panicking_operation_is_undone_and_the_node_goes_on() {
    let mut site = Site::new(1);
    let node = site.start(0);
    node.ask(Ask::Guarded);
    node.ask(Ask::Publish(1));
    until("it goes on", || node.told() == [Told::Panicked, Told::Published(1)]);
}

#[test]
fn a_broken_invariant_stops_the_node_with_a_sentence() {
    let mut site = Site::new(1);
    let node = site.start(0);
    node.ask(Ask::Break);
    until("it stops", || node.handle.failure().is_some());
    let sentence = node.handle.failure().unwrap().to_string();
    assert!(sentence.contains("the toy is broken on purpose"), "{sentence}");
    assert!(!node.handle.input(Ask::Publish(1)));
}

fn caller(site: &Site) -> CallerConfig {
    CallerConfig {
        name: "client".to_owned(),
        key: SigningKey::generate().unwrap(),
        domain: site.domain,
        membership: site.membership.clone(),
        addresses: site.addresses.clone(),
        verifiers: 1,
        metrics: Arc::default(),
    }
}

#[test]
fn a_client_asks_and_is_answered_on_the_way_that_it_came_by() {
    let mut site = Site::new(4);
    let nodes = site.start_all();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = caller(&site);
        let me = Peer::Client(config.key.public());
        let client = call::<Gossip>(config, (), |_| ()).unwrap();
        for id in 0..4 {
            client.input(Ask::Whisper(replica(id), 10 * id as u64));
        }
        let deadline = std::time::Instant::now() + common::PATIENCE;
        loop {
            let mut heard = client.inspect(|gossip| gossip.heard.clone()).await.unwrap();
            heard.sort_by_key(|(sender, _)| *sender);
            if heard.len() == 4 {
                let expected: Vec<_> =
                    (0..4).map(|id| (replica(id), Word::Whisper(10 * id as u64 + 1))).collect();
                assert_eq!(heard, expected);
                break;
            }
            assert!(std::time::Instant::now() < deadline, "answers: {heard:?}");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        client.shutdown().await;
        until("the nodes notice", || {
            nodes.iter().all(|node| node.handle.metrics().live_connections() == 6)
        });
        assert!(nodes[0].heard().iter().any(|(sender, _)| *sender == me));
    });
}

/// Has a client compute for so long, and says whether that held its event loop up.
async fn holds_up(client: &CallerHandle<Gossip>, time: Duration) -> bool {
    client.input(Ask::Compute(time));
    let computed = client.inspect(|gossip| gossip.computed_on.last().copied()).await.unwrap();
    computed == Some(std::thread::current().id())
}

#[test]
fn long_turns_of_a_client_leave_the_event_loop() {
    let site = Site::new(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = call::<Gossip>(caller(&site), (), |_| ()).unwrap();
        let long = Duration::from_millis(20);
        // Nobody knows beforehand; from then on it is known.
        holds_up(&client, long).await;
        for _ in 0..10 {
            assert!(!holds_up(&client, long).await);
        }
        let deadline = std::time::Instant::now() + common::PATIENCE;
        while !holds_up(&client, Duration::ZERO).await {
            assert!(std::time::Instant::now() < deadline, "short turns come back to it");
        }
    });
}

#[test]
fn a_client_that_breaks_down_is_asked_in_vain_and_tells_nothing_more() {
    let site = Site::new(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (teller, mut told) = tokio::sync::mpsc::unbounded_channel();
        let client = call::<Gossip>(caller(&site), (), move |output| {
            let _ = teller.send(output);
        })
        .unwrap();
        client.input(Ask::Guarded);
        assert_eq!(told.recv().await, Some(Told::Panicked));
        client.input(Ask::Break);
        assert_eq!(told.recv().await, None);
        assert!(!client.input(Ask::Guarded));
        assert_eq!(client.inspect(|_| ()).await, None);
        client.shutdown().await;
    });
}

#[test]
fn folders_and_keys_that_are_not_its_own_are_refused() {
    let mut site = Site::new(2);
    let node = site.start(0);
    let mut config = site.config(1);
    config.data = site.data(0);
    let refused = run(config).unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");

    node.handle.shutdown();
    let mut config = site.config(1);
    config.data = site.data(0);
    let refused = run(config).unwrap_err();
    assert!(matches!(refused, StartError::Folder(_)), "{refused}");
    assert!(refused.to_string().contains("belongs to another node"), "{refused}");

    let mut config = site.config(1);
    config.key = NodeKey::generate().unwrap();
    let refused = run(config).unwrap_err();
    assert!(refused.to_string().contains("identity key is not the one"), "{refused}");
}

/// One request to the metrics endpoint: status line and body.
fn http(address: std::net::SocketAddr, path: &str) -> (String, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn a_node_shows_itself() {
    let mut site = Site::new(1);
    let mut config = site.config(0);
    config.metrics = Some(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    config.probe = Probe {
        lineage: Box::new(|_, _| Vec::new()),
        status: Box::new(|gossip: &Gossip| serde_json::json!({ "recorded": gossip.recorded })),
        ready: Box::new(|gossip| !gossip.recorded.is_empty()),
        numbers: Box::new(|gossip| vec![("slot", gossip.recorded.len() as i64)]),
    };
    let node = run(config).unwrap();
    let address = node.handle.metrics_address().unwrap();
    assert!(http(address, "/livez").0.contains("200"));
    assert!(http(address, "/readyz").0.contains("503"));
    node.ask(Ask::Publish(5));
    until("it is published", || node.told() == [Told::Published(5)]);
    assert!(http(address, "/readyz").0.contains("200"));
    let status: serde_json::Value = serde_json::from_str(&http(address, "/status").1).unwrap();
    assert_eq!(status["recorded"], serde_json::json!([5]));
    assert_eq!(
        status["disk"]["records_lost"], 0,
        "the driver's part stands beside the automaton's"
    );
    let (head, metrics) = http(address, "/metrics");
    assert!(head.contains("200"), "{head}");
    for line in [
        "testudo_slot 1",
        "testudo_records_total 1",
        "testudo_flush_seconds_count 1",
        "testudo_steps_total{kind=\"input\"} 1",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(http(address, "/nothing").0.contains("404"));
}

#[test]
fn a_liars_words_go_where_he_wants_them() {
    let mut site = Site::new(3);
    let mut config = site.config(0);
    // One thing to replica 1, another to replica 2.
    config.outgoing = Some(Lie(Box::new(|peer, word| match (peer, word) {
        (peer, Word::News(number)) if peer == replica(2) => {
            vec![(peer, Word::News(number + 100))]
        }
        (peer, word) => vec![(peer, word)],
    })));
    let liar = run(config).unwrap();
    let (one, two) = (site.start(1), site.start(2));
    liar.ask(Ask::Publish(1));
    until("1 hears one thing", || one.has_heard(0, &Word::News(1)));
    until("2 hears another", || two.has_heard(0, &Word::News(101)));
    until("and himself", || liar.has_heard(0, &Word::News(1)));
}
