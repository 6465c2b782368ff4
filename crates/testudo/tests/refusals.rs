//! What does not fit is refused at once: one sentence on standard error, an exit code, and nothing left behind.

mod support;

use support::{folder, path, said, testudo};

fn refused(arguments: &[&str], what: &str) {
    let output = testudo(arguments);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.starts_with("testudo: ") && said.trim_end().lines().count() == 1, "{said}");
    assert!(said.contains(what), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn flags_that_do_not_fit() {
    let folder = folder();
    let data = path(&folder.path().join("data"));
    let up = |flags: &[&str], what: &str| {
        let mut all = vec!["up", "--listen", "127.0.0.1:0", "--data", &data];
        all.extend(flags);
        refused(&all, what);
        let left = std::fs::read_dir(folder.path().join("data"));
        let left: Vec<_> = left.into_iter().flatten().flatten().map(|it| it.file_name()).collect();
        assert!(left.iter().all(|name| name == "lock"), "{flags:?} left {left:?}");
    };
    up(&["--replicas", "3"], "4 replicas are needed to survive 1 Byzantine fault");
    up(
        &["--faults", "2", "--replicas", "6"],
        "7 replicas are needed to survive 2 Byzantine faults",
    );
    up(&["--faults", "30"], "91 replicas are more than the");
    up(&["--replicas", "65535"], "65535 replicas are more than the");
    up(&["--liar", "4=silent"], "numbered from 0 to 3");
    up(&["--liar", "0=silent", "--liar", "1=stale"], "2 liars are more than the 1");
    up(&["--liar", "0=silent", "--liar", "0=stale"], "in one way only");
    up(&["--log", "x=y=z"], "--log");
    refused(&["up", "--ephemeral", "--data", &data], "cannot be used with");
    refused(&["up", "--nonsense"], "--nonsense");
    refused(&["nonsense"], "nonsense");
    refused(&[], "testudo up");
    refused(&["evidence"], "testudo evidence verify");
    refused(&["evidence", "verify", "some.evidence"], "--cluster");
    refused(&["evidence", "list", "--cluster", "nowhere.toml"], "nowhere.toml");
}

#[test]
fn an_address_that_is_taken() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let folder = folder();
    let data = path(&folder.path().join("data"));
    let output = testudo(&["up", "--listen", &address, "--data", &data]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(
        said.contains(&format!("cannot listen on {address}: address already in use")),
        "{said}"
    );
    assert!(!folder.path().join("data").exists());
}

#[test]
fn files_of_init() {
    let folder = folder();
    let out = folder.path().join("cluster");
    let replicas = "127.0.0.1:7000,127.0.0.1:7010,127.0.0.1:7020,127.0.0.1:7030";
    let init = ["init", "--replicas", replicas, "--gateways", "2", "--out", &path(&out)];
    let output = testudo(&init);
    assert!(output.status.success(), "{}", said(&output));
    let mut names: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "cluster.toml",
            "gateway-0.key",
            "gateway-1.key",
            "replica-0.key",
            "replica-1.key",
            "replica-2.key",
            "replica-3.key"
        ]
    );
    refused(&init, "exists already");

    let file = |name: &str| path(&out.join(name));
    let (cluster, data) = (file("cluster.toml"), path(&folder.path().join("data")));
    let node = |command: &'static str, key: &str| {
        vec![command.to_owned(), "--cluster".into(), cluster.clone(), "--key".into(), file(key)]
    };
    let refuse = |mut words: Vec<String>, more: &[&str], what: &str| {
        words.extend(more.iter().map(ToString::to_string));
        refused(&words.iter().map(String::as_str).collect::<Vec<_>>(), what);
    };
    refuse(node("replica", "gateway-0.key"), &["--data", &data], "run `testudo gateway` with it");
    refuse(node("gateway", "replica-0.key"), &[], "run `testudo replica` with it");
    refuse(node("replica", "nobody.key"), &["--data", &data], "nobody.key");
    refuse(node("replica", "cluster.toml"), &["--data", &data], "cluster.toml");
    // A real cluster has no liars, whatever is asked for.
    let mut liar = node("liar", "replica-0.key");
    liar.extend(["--kind".into(), "corrupt".into()]);
    refuse(liar, &["--data", &data], "not marked as a demonstration");
    // Nor may `up` take over what `init` made.
    refused(
        &["up", "--listen", "127.0.0.1:0", "--data", &path(&out)],
        "`up` did not make this cluster",
    );

    let output = testudo(&["status", "--cluster", &cluster]);
    assert_eq!(output.status.code(), Some(4), "nobody runs: {}", said(&output));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("No quorum") && shown.contains("unreachable"), "{shown}");

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let key = out.join("replica-0.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        refuse(node("replica", "replica-0.key"), &["--data", &data], "chmod 600");
    }
}

#[test]
fn init_that_cannot_be() {
    let folder = folder();
    let out = path(&folder.path().join("cluster"));
    let init = |replicas: &str, more: &[&str], what: &str| {
        let mut all = vec!["init", "--out", &out, "--replicas", replicas];
        all.extend(more);
        refused(&all, what);
        assert!(!folder.path().join("cluster").exists());
    };
    init("a:1,b:1,c:1", &[], "4 replicas are needed");
    init("a:1,b:1,c:1,d:1", &["--faults", "2"], "7 replicas are needed");
    init("a:1,b:1,c:1,a:1", &[], "same address a:1");
    init("a:1,b:1,c:1,d", &[], "has no port");
    init("a:1,b:1,c:1,:4", &[], "the host");
    init("a:1,b:1,c:1,d:1", &["--protocol", "raft"], "there is no protocol `raft`");
}

#[test]
fn somebody_elses_folder() {
    let folder = folder();
    std::fs::write(folder.path().join("thesis.tex"), "").unwrap();
    refused(&["up", "--listen", "127.0.0.1:0", "--data", &path(folder.path())], "thesis.tex");
    refused(&["status", "--data", &path(folder.path())], "no such file");
}

#[test]
fn voting_keys_that_are_not_ones_own_or_have_rotted() {
    let folder = folder();
    let out = path(&folder.path().join("cluster"));
    let addresses: Vec<String> =
        support::free_ports(8).iter().step_by(2).map(|port| format!("127.0.0.1:{port}")).collect();
    let init = testudo(&["init", "--replicas", &addresses.join(","), "--out", &out]);
    assert!(init.status.success(), "{}", said(&init));
    let cluster = format!("{out}/cluster.toml");
    let data = |id: u16| folder.path().join(format!("data-{id}"));
    let keys = [0, 1].map(|id| format!("{out}/replica-{id}.key"));
    let datas = [0, 1].map(|id| path(&data(id)));
    let words =
        |id: usize| ["replica", "--cluster", &cluster, "--key", &keys[id], "--data", &datas[id]];
    for id in [0, 1] {
        let candidate = data(id as u16).join("keys/candidate");
        let node = support::Node::start(&words(id));
        support::eventually("a candidate is made", || candidate.exists().then_some(()));
        assert_eq!(node.stop(), Some(0));
    }
    let candidates = [0, 1].map(|id| data(id).join("keys/candidate"));
    let own = std::fs::read(&candidates[0]).unwrap();
    std::fs::copy(&candidates[1], &candidates[0]).unwrap();
    refused(&words(0), "is a voting key of node");
    std::fs::write(&candidates[0], &own[..own.len() / 2]).unwrap();
    refused(&words(0), "remove it, and another one is made");
    std::fs::remove_file(&candidates[0]).unwrap();
    let _node = support::Node::start(&words(0));
    support::eventually("another one is made", || candidates[0].exists().then_some(()));
}

#[test]
fn help_is_for_everybody() {
    let evidence = &["evidence", "verify", "--help"][..];
    for words in
        [&["--help"][..], &["up", "--help"], &["status", "--help"], evidence, &["--version"]]
    {
        let output = testudo(words);
        assert!(output.status.success() && !output.stdout.is_empty());
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!shown.contains("supervised"), "{shown}");
    }
}

#[test]
fn a_reader_that_has_left_is_no_reason_to_panic() {
    use std::process::{Command, Stdio};
    let folder = folder();
    let out = path(&folder.path().join("cluster"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let errors = writer.try_clone().unwrap();
    let code = |arguments: &[&str], output: std::io::PipeWriter, errors: Stdio| {
        let mut command = Command::new(support::TESTUDO);
        command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors);
        command.status().unwrap().code()
    };
    let init = ["init", "--replicas", "a:1,b:1,c:1,d:1", "--out", &out];
    assert_eq!(code(&init, writer.try_clone().unwrap(), Stdio::null()), Some(0));
    assert_eq!(code(&init, writer, errors.into()), Some(2));
}
