//! Watches: requests become those of the service, and what it says becomes etcd's answers.

use prost::Message;
use testudo_core::DecodeError;
use testudo_kv::watch::{Cause, Event, Notice, WatchRequest};

use super::record::{Record, nested_length, open, write_number};
use super::request::own;
use crate::grpc::begin_frame;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use crate::proto::mvccpb::event::EventType;

/// `key_value`, `prev_kv` and `type` of `mvccpb.Event`.
const TYPE: u32 = 1;
const NOW: u32 = 2;
const BEFORE: u32 = 3;
/// `events` of `WatchResponse`.
const EVENTS: u32 = 11;

pub(crate) fn watch_request(request: &WatchCreateRequest) -> WatchRequest {
    let filters = |filter: FilterType| request.filters.contains(&i32::from(filter));
    WatchRequest {
        key: own(&request.key),
        range_end: own(&request.range_end),
        start_revision: request.start_revision,
        no_put: filters(FilterType::Noput),
        no_delete: filters(FilterType::Nodelete),
        prev_kv: request.prev_kv,
        progress_notify: request.progress_notify,
        fragment: request.fragment,
        watch_id: request.watch_id,
    }
}

/// Appends what a stream says, framed. The header is made of the revision that it bears.
///
/// # Errors
/// When a record is none, which is no client's doing.
pub(crate) fn watch_message(
    notice: &Notice,
    header: impl FnOnce(i64) -> ResponseHeader,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let answer = |revision, watch_id| WatchResponse {
        header: Some(header(revision)),
        watch_id,
        ..WatchResponse::default()
    };
    let (answer, events) = match notice {
        Notice::Created { watch_id, revision } => {
            (WatchResponse { created: true, ..answer(*revision, *watch_id) }, &[][..])
        }
        Notice::Refused { refusal, revision } => {
            let cancel_reason = refusal.text().to_owned();
            let refused = WatchResponse {
                created: true,
                canceled: true,
                cancel_reason,
                ..answer(*revision, -1)
            };
            (refused, &[][..])
        }
        Notice::Canceled { watch_id, revision, cause } => {
            let compact_revision = match cause {
                Cause::Asked => 0,
                Cause::Compacted(revision) => *revision,
            };
            let canceled =
                WatchResponse { canceled: true, compact_revision, ..answer(*revision, *watch_id) };
            (canceled, &[][..])
        }
        Notice::Progress { watch_id, revision } => (answer(*revision, *watch_id), &[][..]),
        Notice::Events { watch_id, revision, events, fragment } => {
            (WatchResponse { fragment: *fragment, ..answer(*revision, *watch_id) }, &events[..])
        }
    };
    write(&answer, events, out)
}

/// Writes an answer, and after it its events, whose field has the highest number.
fn write(answer: &WatchResponse, events: &[Event], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut length = answer.encoded_len();
    for event in events {
        length += nested_length(EventView::new(event)?.length());
    }
    begin_frame(length, out);
    answer.encode_raw(out);
    for event in events {
        EventView::new(event)?.write(out);
    }
    Ok(())
}

/// One event, taken apart without copying.
struct EventView<'a> {
    kind: EventType,
    now: Record<'a>,
    before: Option<Record<'a>>,
}

impl<'a> EventView<'a> {
    fn new(event: &'a Event) -> Result<Self, DecodeError> {
        let change = &event.change;
        let (kind, now) = match &change.record {
            Some(record) => (EventType::Put, Record::read(record)?),
            None => {
                let (key, mod_revision) = (&change.key[..], change.revision);
                (EventType::Delete, Record { key, mod_revision, ..Record::default() })
            }
        };
        let before = event.previous.as_deref().map(Record::read).transpose()?;
        Ok(Self { kind, now, before })
    }

    fn length(&self) -> usize {
        let kind = if self.kind == EventType::Put { 0 } else { 2 };
        let before = self.before.as_ref().map_or(0, |before| nested_length(before.length()));
        kind + nested_length(self.now.length()) + before
    }

    fn write(&self, out: &mut Vec<u8>) {
        open(EVENTS, self.length(), out);
        write_number(TYPE, i64::from(i32::from(self.kind)), out);
        self.now.write(NOW, out);
        if let Some(before) = &self.before {
            before.write(BEFORE, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mvccpb;
    use bytes::Bytes;
    use testudo_core::Encode;
    use testudo_kv::{Change, KeyValue};

    fn pair(key: &str, revision: i64, value: &[u8]) -> KeyValue {
        KeyValue {
            key: key.as_bytes().into(),
            create_revision: 2,
            mod_revision: revision,
            version: revision - 1,
            lease: 0x7fff_0000_1111_2222,
            value: value.into(),
        }
    }

    fn expected(pair: &KeyValue) -> mvccpb::KeyValue {
        mvccpb::KeyValue {
            key: Bytes::copy_from_slice(&pair.key),
            create_revision: pair.create_revision,
            mod_revision: pair.mod_revision,
            version: pair.version,
            value: Bytes::copy_from_slice(&pair.value),
            lease: pair.lease,
        }
    }

    #[test]
    fn events_are_written_as_the_generated_message_writes_them() {
        let (old, new) = (pair("k", 5, b""), pair("k", 300, &[7; 1000]));
        let change = |revision, record: Option<&KeyValue>| Change {
            revision,
            key: b"k"[..].into(),
            record: record.map(|record| record.to_bytes().into()),
        };
        let record = |pair: &KeyValue| Some(pair.to_bytes().into());
        let events = vec![
            Event { change: change(300, Some(&new)), previous: None },
            Event { change: change(300, Some(&new)), previous: record(&old) },
            Event { change: change(301, None), previous: record(&new) },
            Event { change: change(302, None), previous: None },
        ];
        let deleted = |mod_revision| mvccpb::KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision,
            ..mvccpb::KeyValue::default()
        };
        let event =
            |kind: EventType, kv, prev_kv| mvccpb::Event { r#type: kind.into(), kv, prev_kv };
        let header = |revision| ResponseHeader { revision, raft_term: 9, ..Default::default() };
        let response = WatchResponse {
            header: Some(header(302)),
            watch_id: 77,
            fragment: true,
            events: vec![
                event(EventType::Put, Some(expected(&new)), None),
                event(EventType::Put, Some(expected(&new)), Some(expected(&old))),
                event(EventType::Delete, Some(deleted(301)), Some(expected(&new))),
                event(EventType::Delete, Some(deleted(302)), None),
            ],
            ..WatchResponse::default()
        };
        let notice = Notice::Events { watch_id: 77, revision: 302, events, fragment: true };
        let mut written = Vec::new();
        watch_message(&notice, header, &mut written).expect("records are records");
        assert_eq!(written[5..], response.encode_to_vec());
        assert_eq!(written[1..5], (written.len() as u32 - 5).to_be_bytes());
    }
}
