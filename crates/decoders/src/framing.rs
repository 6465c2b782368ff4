//! Where one message ends and the next begins, in bytes that come in pieces: over channels between nodes, and in the bodies
//! of clients' requests. However they are cut, the messages are the same.

use bytes::{Bytes, BytesMut};
use testudo_etcd::unframe;
use testudo_runtime::{TooLong, split_frames};

/// Bytes of the longest frame here.
const LIMIT: usize = 200;

/// Bytes of the longest message that etcd takes.
const LONGEST_MESSAGE: usize = 2 << 20;

/// Frames of a channel. The first byte of the input says how long the pieces are.
pub(crate) fn channel(input: &[u8]) {
    let Some((&piece, stream)) = input.split_first() else { return };
    let (mut buffer, mut frames, mut outcome) = (BytesMut::new(), Vec::new(), Ok(None));
    for piece in stream.chunks(usize::from(piece).max(1)) {
        buffer.extend_from_slice(piece);
        outcome = split_frames(&mut buffer, &mut frames, LIMIT);
        if outcome.is_err() {
            break;
        }
    }
    let (mut rest, mut expected, mut end) = (stream, Vec::new(), Ok(None));
    while let Some((prefix, tail)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > LIMIT || length > tail.len() {
            end = if length > LIMIT { Err(TooLong(length)) } else { Ok(Some(length)) };
            break;
        }
        let (frame, tail) = tail.split_at(length);
        expected.extend((length > 0).then(|| Bytes::copy_from_slice(frame)));
        rest = tail;
    }
    assert_eq!((frames, outcome), (expected, end));
}

/// The body of a client's request. The first byte of the input says how long the pieces are, the second how much the client
/// may have charged to it.
pub(crate) fn body(input: &[u8]) {
    let Some((&[piece, budget], stream)) = input.split_first_chunk() else { return };
    let pieces = stream.chunks(usize::from(piece).max(1)).map(Bytes::copy_from_slice);
    let read = unframe(&pieces.collect::<Vec<_>>(), usize::from(budget) << 15);
    assert_eq!(read.charged, 0, "the client is gone, and is charged");
    let (mut rest, mut expected, mut is_sound) = (stream, Vec::new(), true);
    while is_sound && let Some((&[flag, a, b, c, d], tail)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        is_sound = flag == 0 && length <= LONGEST_MESSAGE && length <= tail.len();
        if is_sound {
            let (message, tail) = tail.split_at(length);
            expected.push(Bytes::copy_from_slice(message));
            rest = tail;
        }
    }
    let is_whole = is_sound && rest.is_empty();
    assert!(expected.starts_with(&read.messages), "what was read was never said");
    assert_eq!(read.end.is_ok(), is_whole && read.messages == expected);
    match &read.call {
        Ok(message) => assert_eq!((message, is_whole), (&expected[0], expected.len() == 1)),
        // What is short is never more than a client may have charged to it.
        Err(_) => {
            assert!(!(is_whole && expected.len() == 1 && budget > 0 && stream.len() < 1 << 12));
        }
    }
}

pub(crate) fn good_channels() -> Vec<Vec<u8>> {
    let frame = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
    let frames = [frame(b"one"), frame(b""), frame(&[7; LIMIT]), frame(b"four")].concat();
    let too_long = [frame(b"one"), frame(&[7; LIMIT + 1])].concat();
    [1, 3, 50, 255]
        .map(|piece| [&[piece][..], &frames].concat())
        .into_iter()
        .chain([too_long])
        .collect()
}

pub(crate) fn good_bodies() -> Vec<Vec<u8>> {
    let frame = |bytes: &[u8]| [&[0][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let (one, long) = (frame(b"one"), frame(&[7; 9000]));
    let many = [one.clone(), frame(b""), long.clone(), one.clone()].concat();
    vec![
        [&[1, 1][..], &one].concat(),
        [&[100, 2][..], &long].concat(),
        [&[3, 255][..], &many].concat(),
        [&[255, 0][..], &many].concat(),
    ]
}
