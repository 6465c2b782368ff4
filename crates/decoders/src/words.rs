//! What comes over a channel.

use crate::heard::{HEARD, Said};
use crate::members::good_decree;
use crate::one_form;
use testudo_core::{
    ClusterId, Encode, GroupId, Kind, Message, ProtocolId, ReplicaId, Signed, Verified,
};
use testudo_replication::{Bundle, Decree};
use testudo_runtime::{Answer, Hello};

/// A frame, as any of what is signed: it is read, and what it says is.
pub(crate) fn frame(input: &[u8]) {
    if let Some(signed) = one_form::<Signed<Said>>(input) {
        read_back(signed);
    }
    if let Some(signed) = one_form::<Signed<Bundle>>(input) {
        read_back(signed);
    }
    if let Some(signed) = one_form::<Signed<Decree>>(input) {
        read_back(signed);
    }
}

/// Whatever is read of a frame without checking who has signed it, as nodes read their own logs, is what it says.
fn read_back<M: Message>(signed: Signed<M>) {
    let bytes = signed.to_bytes();
    if let Ok(verified) = Verified::replay(signed) {
        assert_eq!(verified.signed().to_bytes(), bytes);
        let mut body = Vec::new();
        verified.message().encode_body(&mut body);
        assert_eq!(body, verified.body(), "it has two forms");
    }
}

/// The body of a message: its protocol, its kind, and what it says.
pub(crate) fn message(input: &[u8]) {
    let Some((&[protocol, kind], body)) = input.split_first_chunk() else { return };
    let (protocol, kind) = (ProtocolId(protocol), Kind(kind));
    if let Ok(message) = Said::decode_body(protocol, kind, body) {
        assert_eq!((message.protocol(), message.kind()), (protocol, kind));
        let mut again = Vec::new();
        message.encode_body(&mut again);
        assert_eq!(again, body, "it has two forms");
        assert!(!message.name().is_empty());
    }
}

/// The first words on a channel.
pub(crate) fn greeting(input: &[u8]) {
    one_form::<Hello>(input);
    one_form::<Answer>(input);
}

pub(crate) fn good_frames() -> Vec<Vec<u8>> {
    HEARD.iter().map(Encode::to_bytes).chain([good_decree()]).collect()
}

pub(crate) fn good_messages() -> Vec<Vec<u8>> {
    let read = HEARD.iter().filter_map(|signed| Verified::replay(signed.clone()).ok());
    read.map(|verified| {
        let message = verified.message();
        let mut input = vec![message.protocol().0, message.kind().0];
        message.encode_body(&mut input);
        input
    })
    .collect()
}

pub(crate) fn good_greetings() -> Vec<Vec<u8>> {
    let (cluster, group) = (ClusterId([7; 16]), GroupId(1));
    let hello = |replica| Hello { cluster, group, replica }.to_bytes();
    let answer = |refusal| Answer { cluster, group, refusal }.to_bytes();
    vec![
        hello(None),
        hello(Some(ReplicaId(3))),
        answer(None),
        answer(Some("you belong to another cluster".into())),
    ]
}
