//! A look at a transaction before it is decoded.
//!
//! Two bytes of a message can announce one request of a transaction, which takes a hundred times
//! that in memory once decoded. So the announcements are counted first, where they lie.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use testudo_kv::Error;
use testudo_kv::check::{NESTING, TXN_OPERATIONS};

use crate::proto::etcdserverpb::RequestOp;

/// `compare`, `success` and `failure` of `TxnRequest`.
const LISTS: std::ops::RangeInclusive<u32> = 1..=3;
/// `success` and `failure` of `TxnRequest`.
const BRANCHES: std::ops::RangeInclusive<u32> = 2..=3;
/// `request_txn` of `RequestOp`.
const INNER: u32 = 4;

/// Bytes that one compare or request takes while it is translated: once as it was decoded, once as
/// it goes on, and as much again for the lists to grow.
pub(crate) const OPERATION_BYTES: usize = 3 * size_of::<RequestOp>();

/// Counts the compares and requests of an encoded transaction and of those inside it. Of malformed
/// bytes it counts what lies before the fault, which is what decoding will come to see.
///
/// # Errors
/// When a list has more than any may have, or transactions lie deeper than they may.
pub(crate) fn operations(message: &[u8]) -> Result<usize, Error> {
    let mut walk = Walk { operations: 0, excess: false };
    let _ended_early = walk.txn(message, 0);
    if walk.excess { Err(Error::TooManyOperations) } else { Ok(walk.operations) }
}

struct Walk {
    operations: usize,
    excess: bool,
}

impl Walk {
    /// None when the walk is over: at a fault, or because there is too much.
    fn txn(&mut self, mut message: &[u8], depth: usize) -> Option<()> {
        if depth > NESTING {
            self.excess = true;
            return None;
        }
        let mut counts = [0; 4];
        while message.has_remaining() {
            let (tag, wire_type) = decode_key(&mut message).ok()?;
            if LISTS.contains(&tag) {
                let count = counts.get_mut(tag as usize)?;
                *count += 1;
                self.operations += 1;
                if *count > TXN_OPERATIONS {
                    self.excess = true;
                    return None;
                }
            }
            if BRANCHES.contains(&tag) && wire_type == WireType::LengthDelimited {
                self.request(field(&mut message)?, depth)?;
            } else {
                skip_field(wire_type, tag, &mut message, DecodeContext::default()).ok()?;
            }
        }
        Some(())
    }

    fn request(&mut self, mut message: &[u8], depth: usize) -> Option<()> {
        while message.has_remaining() {
            let (tag, wire_type) = decode_key(&mut message).ok()?;
            if tag == INNER && wire_type == WireType::LengthDelimited {
                self.txn(field(&mut message)?, depth + 1)?;
            } else {
                skip_field(wire_type, tag, &mut message, DecodeContext::default()).ok()?;
            }
        }
        Some(())
    }
}

/// Takes the bytes of a field that bears its length.
fn field<'a>(message: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(message).ok()?).ok()?;
    let (field, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::request_op::Request;
    use crate::proto::etcdserverpb::{Compare, PutRequest, TxnRequest};
    use bytes::Bytes;
    use prost::Message;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn puts(count: usize) -> Vec<RequestOp> {
        let put = PutRequest { key: Bytes::from_static(b"key"), ..PutRequest::default() };
        vec![op(Request::RequestPut(put)); count]
    }

    fn nested(depth: usize, innermost: TxnRequest) -> TxnRequest {
        (0..depth).fold(innermost, |inner, _| TxnRequest {
            failure: vec![op(Request::RequestTxn(inner))],
            ..TxnRequest::default()
        })
    }

    #[test]
    fn lists_are_counted_at_every_depth() {
        for count in [0, TXN_OPERATIONS, TXN_OPERATIONS + 1] {
            let lists = [
                TxnRequest { compare: vec![Compare::default(); count], ..TxnRequest::default() },
                TxnRequest { success: puts(count), ..TxnRequest::default() },
                TxnRequest { failure: puts(count), ..TxnRequest::default() },
            ];
            for list in lists {
                for depth in [0, 1, NESTING] {
                    let message = nested(depth, list.clone()).encode_to_vec();
                    let expected = if count > TXN_OPERATIONS {
                        Err(Error::TooManyOperations)
                    } else {
                        Ok(count + depth)
                    };
                    assert_eq!(operations(&message), expected, "{count} at depth {depth}");
                }
            }
        }
        let deep = nested(NESTING + 1, TxnRequest::default()).encode_to_vec();
        assert_eq!(operations(&deep), Err(Error::TooManyOperations));
    }

    #[test]
    fn a_fault_ends_the_walk() {
        let message = TxnRequest { success: puts(3), ..TxnRequest::default() }.encode_to_vec();
        for length in 0..message.len() {
            assert!(operations(&message[..length]).is_ok_and(|count| count <= 3));
        }
        assert_eq!(operations(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Ok(1));
    }
}
