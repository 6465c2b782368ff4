//! Stored records become answers without a stop between.
//!
//! Reads and events are most of what a gateway says, and nothing of them is judged on the way. So
//! they go from the service's encoding to etcd's in one step: each key and value is copied once, into
//! the frame that is sent. The rest of what etcd's messages consist of is generated; here are the few
//! fields that are written by hand, under the numbers that `rpc.proto` and `kv.proto` give them.

use bytes::BufMut;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use testudo_core::{Decode, DecodeError, Reader};

use crate::proto::etcdserverpb::ResponseHeader;

/// A key with all that is known of it, taken apart without copying. Its encoding is that of
/// [`testudo_kv::KeyValue`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Record<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
    pub(crate) value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record that stands by itself.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let record = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(record)
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: reader.bytes()?,
            create_revision: Decode::decode(reader)?,
            mod_revision: Decode::decode(reader)?,
            version: Decode::decode(reader)?,
            lease: Decode::decode(reader)?,
            value: reader.bytes()?,
        })
    }

    /// Bytes of this as `mvccpb.KeyValue`.
    pub(crate) fn length(&self) -> usize {
        let numbers = [self.create_revision, self.mod_revision, self.version, self.lease];
        bytes_length(self.key)
            + bytes_length(self.value)
            + numbers.map(number_length).iter().sum::<usize>()
    }

    /// Writes this as the `mvccpb.KeyValue` in a field of another message.
    pub(crate) fn write(&self, field: u32, out: &mut Vec<u8>) {
        open(field, self.length(), out);
        write_bytes(1, self.key, out);
        write_number(2, self.create_revision, out);
        write_number(3, self.mod_revision, out);
        write_number(4, self.version, out);
        write_bytes(5, self.value, out);
        write_number(6, self.lease, out);
    }
}

/// Bytes of a message inside another, with what comes before it. Field numbers here are below 16.
pub(crate) fn nested_length(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

/// Begins a message inside another.
pub(crate) fn open(field: u32, length: usize, out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

fn bytes_length(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { nested_length(bytes.len()) }
}

fn write_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        open(field, bytes.len(), out);
        out.put_slice(bytes);
    }
}

/// Negative numbers are written as their two's complement, as protobuf has it for `int64`.
fn number_length(number: i64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(number.cast_unsigned()) }
}

pub(crate) fn write_number(field: u32, number: i64, out: &mut Vec<u8>) {
    if number != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(number.cast_unsigned(), out);
    }
}

/// The tag of a range among the service's results ([`testudo_kv::Response`]).
const RANGE: u8 = 0;

/// The result of a range as a `RangeResponse`, once it has been looked through. None if the result is
/// that of another operation, or a refusal.
pub(crate) fn range_message(
    result: &[u8],
    header: impl FnOnce(i64) -> ResponseHeader,
) -> Option<Result<RangeMessage<'_>, DecodeError>> {
    let (&RANGE, body) = result.split_first()? else { return None };
    Some(RangeMessage::new(body, header))
}

/// A range's answer that is yet to be written.
#[derive(Debug)]
pub(crate) struct RangeMessage<'a> {
    header: ResponseHeader,
    records: Reader<'a>,
    /// How many records there are, and how many keys the range has in all.
    count: usize,
    in_all: i64,
    more: bool,
    length: usize,
}

impl<'a> RangeMessage<'a> {
    fn new(
        body: &'a [u8],
        header: impl FnOnce(i64) -> ResponseHeader,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let header = header(Decode::decode(&mut reader)?);
        let count = reader.length()?;
        let records = reader.clone();
        let mut length = nested_length(header.encoded_len());
        for _ in 0..count {
            length += nested_length(Record::decode(&mut reader)?.length());
        }
        let more: bool = Decode::decode(&mut reader)?;
        let in_all: i64 = Decode::decode(&mut reader)?;
        reader.finish()?;
        length += number_length(i64::from(more)) + number_length(in_all);
        Ok(Self { header, records, count, in_all, more, length })
    }

    /// Bytes of the message.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// Writes the message.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        open(1, self.header.encoded_len(), out);
        self.header.encode_raw(out);
        let mut reader = self.records;
        for _ in 0..self.count {
            // They have been read before.
            let Ok(record) = Record::decode(&mut reader) else { break };
            record.write(2, out);
        }
        write_number(3, i64::from(self.more), out);
        write_number(4, self.in_all, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::response::range_response;
    use testudo_core::Encode;
    use testudo_kv::{KeyValue, RangeResponse, Response};

    fn bytes(length: usize) -> std::sync::Arc<[u8]> {
        vec![b'x'; length].into()
    }

    fn pair(length: usize, number: i64) -> KeyValue {
        KeyValue {
            key: bytes(length),
            create_revision: number,
            mod_revision: number.wrapping_add(1),
            version: -number,
            lease: number.wrapping_mul(3),
            value: bytes(length.saturating_mul(7)),
        }
    }

    #[test]
    fn ranges_are_written_as_the_generated_message_writes_them() {
        let header = |revision| ResponseHeader { member_id: 3, revision, ..Default::default() };
        for (count, more) in [(0, false), (1, true), (130, true)] {
            let kvs: Vec<_> = [0, 1, 17, 18, 200, 20_000]
                .into_iter()
                .zip([0, 1, 127, 128, i64::MAX, i64::MIN + 1])
                .map(|(length, number)| pair(length, number))
                .take(count)
                .collect();
            let range = RangeResponse { revision: 9, kvs, more, count: count as i64 };
            let result = Response::Range(range.clone()).to_bytes();
            let message =
                range_message(&result, header).expect("it is a range").expect("it is whole");
            let (length, mut written) = (message.length(), Vec::new());
            message.write(&mut written);
            assert_eq!(written, range_response(header(9), range).encode_to_vec());
            assert_eq!(written.len(), length);
            for length in 1..result.len().min(500) {
                let cut = range_message(&result[..length], header);
                assert!(cut.expect("a range").is_err());
            }
        }
        let other = Response::Error(testudo_kv::Error::EmptyKey).to_bytes();
        assert!(range_message(&other, header).is_none());
        assert!(range_message(&[], header).is_none());
    }
}
