use super::*;
use crate::failure::Exit;
use testudo_kv::AutoCompaction;

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

fn cluster() -> Cluster {
    let replica = |id: u16| Replica {
        id,
        address: Address::new("node.example", 7000 + 2 * id),
        admin: Some(Address::new("node.example", 7001 + 2 * id)),
        identity: key(id as u8 + 1),
        voting: key(id as u8 + 101),
        liar: None,
    };
    Cluster {
        id: ClusterId([0xab; 16]),
        protocol: protocols::DEFAULT.into(),
        faults: 1,
        demonstration: false,
        beyond: false,
        service: Settings {
            quota: 512 << 20,
            compaction: AutoCompaction::Period { milliseconds: 3_600_000 },
        },
        replicas: (0..4).map(replica).collect(),
        gateways: vec![Gateway {
            id: 0,
            key: key(201),
            address: Some(Address::new("[::1]", 2379)),
            admin: Some(Address::new("node.example", 2380)),
        }],
    }
}

/// The same on one machine, where replicas may lie.
fn demonstration() -> Cluster {
    let mut cluster = cluster();
    cluster.demonstration = true;
    for replica in &mut cluster.replicas {
        replica.address = Address::new("127.0.0.1", 7000 + 2 * replica.id);
        replica.admin = Some(Address::new("127.0.0.1", 7001 + 2 * replica.id));
    }
    cluster
}

/// What is said of the usual file with one thing changed.
fn refusal(from: &str, to: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let text = write::write(&cluster());
    assert!(text.contains(from), "{from:?} is not in\n{text}");
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    let failure = Cluster::load(&path).unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    let file = path.to_str().unwrap().to_owned();
    assert!(failure.sentence.starts_with(&file), "no file in: {failure}");
    assert!(!failure.sentence.contains('\n'), "more than a line: {failure}");
    failure.sentence[file.len()..].to_owned()
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let mut liars = demonstration();
    liars.beyond = true;
    for (replica, lie) in liars.replicas.iter_mut().zip(Lie::ALL) {
        replica.liar = Some(lie);
    }
    liars.gateways[0].address = None;
    for cluster in [cluster(), liars] {
        cluster.store(&path).unwrap();
        assert_eq!(Cluster::load(&path).unwrap(), cluster);
    }
}

#[test]
fn slips_of_the_pen_are_refused_with_advice() {
    for (from, to, what) in [
        ("faults = 1", "fault = 1", "no field `fault`; did you mean `faults`?"),
        ("faults = 1", "faults = 1\nspeed = 3", "no field `speed`; what it may hold is format"),
        ("faults = 1", "", "`faults` is missing"),
        ("faults = 1", "faults = \"1\"", "`faults` is a value of type string"),
        ("faults = 1", "faults = -1", "from 0 to 65535"),
        ("faults = 1", "faults = 99999", "from 0 to 65535"),
        ("faults = 1", "faults = 2", "7 replicas are needed to survive 2 Byzantine faults"),
        ("faults = 1", "faults 1", "line 8: this is no TOML"),
        ("quota = \"512MiB\"", "quota = 512", "[service]: `quota` is a value of type integer"),
        ("512MiB", "512MB", "`quota` = \"512MB\" is no number of bytes; write 512MiB"),
        ("512MiB", "1KiB", "`quota` = \"1KiB\" is out of bounds; a quota is from 16MiB to 8GiB"),
        ("quota = ", "qouta = ", "[service]: there is no field `qouta`; did you mean `quota`?"),
        ("auto-compaction = \"", "auto-compaction = \"never", "is no such choice; write off"),
        ("[service]", "[sevrice]", "no field `sevrice`; did you mean `service`?"),
        ("format = 1", "format = 2", "its format is 2, and this program reads format 1"),
        ("format = 1", "", "`format` is missing"),
        ("\"pbft\"", "\"pbtf\"", "there is no protocol `pbtf`; there is pbft"),
        ("abababab", "ababababab", "is not 32 hexadecimal digits"),
        ("abababab", "xyabababab", "is not 32 hexadecimal digits"),
        ("id = 2", "id = 1", "there are two replicas with the id 1"),
        ("id = 3", "id = 4", "id 4, but none with the id 3"),
        ("7002", "7000", "same address node.example:7000"),
        ("7003", "7002", "replica 1 uses the address"),
        (":7004", "", "has no port"),
        (":7004", ":0", "port 0"),
        ("identity = \"0202", "identity = \"02", "is no public key"),
        ("identity = \"02", "identity = \"ü2", "is no public key"),
        ("key = ", "kye = ", "did you mean `key`?"),
        ("[[gateway]]", "[[gatway]]", "did you mean `gateway`?"),
        ("[[gateway]]", "[gateway]", "tables, each under [[gateway]]"),
        ("id = 3", "id = 3\nliar = \"silent\"", "the cluster is no demonstration"),
        ("id = 3", "id = 3\nliar = \"sly\"", "is no way of lying"),
    ] {
        let refusal = refusal(from, to);
        assert!(refusal.contains(what), "{from} -> {to}: {refusal}");
    }
}

#[test]
fn doubled_keys_and_too_few_replicas_are_refused() {
    let same = refusal(&key(2).to_string(), &key(1).to_string());
    assert!(same.contains("replica 0 and replica 1 have the same key"), "{same}");
    let same = refusal(&key(201).to_string(), &key(3).to_string());
    assert!(same.contains("gateway 0 and replica 2 have the same key"), "{same}");
    let mut few = cluster();
    few.replicas.pop();
    let sentence = few.check().unwrap_err().sentence;
    assert_eq!(
        sentence,
        "4 replicas are needed to survive 1 Byzantine fault under partial synchrony \
         (n ≥ 3f+1, Dwork, Lynch and Stockmeyer 1988); 3 given"
    );
}

#[test]
fn more_liars_than_are_survived_need_a_word() {
    let mut cluster = demonstration();
    cluster.replicas[0].liar = Some(Lie::Silent);
    assert!(cluster.check().is_ok());
    cluster.replicas[1].liar = Some(Lie::Stale);
    let sentence = cluster.check().unwrap_err().sentence;
    assert!(sentence.contains("2 liars are more than the 1"), "{sentence}");
    cluster.beyond = true;
    assert!(cluster.check().is_ok());
}

#[test]
fn nobody_lies_on_another_machine() {
    let mut cluster = demonstration();
    cluster.replicas[2].address = Address::new("node.example", 7004);
    let sentence = cluster.check().unwrap_err().sentence;
    assert!(sentence.contains("a demonstration runs on one machine"), "{sentence}");
}

#[test]
fn no_bytes_make_it_panic() {
    let text = write::write(&cluster());
    let file = Path::new("cluster.toml");
    let mut chance: u64 = 1;
    for _ in 0..3_000 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..3 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = (chance >> 33) as usize % bytes.len();
            match chance % 3 {
                0 => bytes[place] = (chance >> 20) as u8,
                1 => drop(bytes.drain(place..(place + 9).min(bytes.len()))),
                _ => bytes.truncate(place.max(40)),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        // Whether it is refused is not the point here.
        if let Ok(cluster) = read::read(file, &text) {
            let _ = cluster.check();
        }
    }
}
