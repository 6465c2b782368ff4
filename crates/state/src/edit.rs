//! Changes in place. Each goes down one path, in a loop, and what it alters in shape lies at the end of that path:
//!
//! - A block that gets one entry too many becomes an inner node over blocks, none of which has too many.
//! - A key that leaves the path of an inner node halfway parts it in two.
//! - When an inner node comes down to as many entries as a block holds, its children are blocks, as none of them had
//!   more entries than itself; it becomes one block. No node above does: each had an entry more than the one below.
//! - An inner node that is left with one child and nothing else becomes one with that child.
//!
//! Nodes on the way that others share are copied; all on the way forget their digests.

use crate::node::{BLOCK_ENTRIES, Block, Child, Inner, Slot, own};
use crate::path::nibble;
use crate::tally;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

/// Sets the value of `key`, and gives the one that it had.
pub(crate) fn insert(mut place: &mut Child, key: &[u8], slot: Slot) -> Option<Slot> {
    let mut depth = 0;
    loop {
        tally::visited();
        let rest = &key[depth / 2..];
        if let Child::Inner(inner) = &*place {
            let matched = inner.path.matching(rest);
            if matched < inner.path.len() {
                fork(place, key, depth, matched, slot);
                return None;
            }
        }
        match *place {
            Child::Block(..) => return insert_into_block(place, depth, rest, slot),
            Child::Inner(ref mut inner) => {
                let inner = own(inner);
                inner.digest.clear();
                depth += inner.path.len();
                if key.len() * 2 == depth {
                    return inner.value.replace(Box::new(slot)).map(|slot| *slot);
                }
                let nibble = nibble(key, depth);
                depth += 1;
                let Some(at) = inner.position(nibble) else {
                    inner.set_child(nibble, Child::single(&key[depth / 2..], slot));
                    return None;
                };
                place = &mut inner.children[at];
            }
        }
    }
}

fn insert_into_block(place: &mut Child, depth: usize, suffix: &[u8], slot: Slot) -> Option<Slot> {
    let Child::Block(entries, node) = place else { return None };
    let block = own(node);
    let old = block.insert(suffix, slot);
    if block.len() > BLOCK_ENTRIES {
        *place = Child::inner(mem::take(block).split(depth));
    } else {
        *entries = block.len() as u8;
    }
    old
}

/// Parts an inner node that begins at `depth` where a new key leaves its path, after `matched` nibbles of it.
fn fork(place: &mut Child, key: &[u8], depth: usize, matched: usize, slot: Slot) {
    let Child::Inner(node) = place else { return };
    let inner = own(node);
    inner.digest.clear();
    let path = mem::take(&mut inner.path);
    let mut above = Inner::new(path.head(matched));
    inner.path = path.tail(matched + 1);
    let end = depth + matched;
    if key.len() * 2 == end {
        above.value = Some(Box::new(slot));
    } else {
        above.set_child(nibble(key, end), Child::single(&key[end.div_ceil(2)..], slot));
    }
    above.set_child(path.nibble(matched), Child::Inner(Arc::clone(node)));
    above.children.shrink_to_fit();
    *place = Child::inner(above);
}

/// Removes a `key` that is there. The caller looks first, as a key that is not there changes nothing.
pub(crate) fn remove(mut place: &mut Child, key: &[u8]) -> Option<Slot> {
    // Where the subtree at `place` begins. The walk stops at the last inner node: its shape may change.
    let mut depth = 0;
    while let Some((at, end)) = below(place, key, depth) {
        tally::visited();
        let Child::Inner(node) = place else { return None };
        let inner = own(node);
        inner.digest.clear();
        place = &mut inner.children[at];
        depth = end + 1;
    }
    tally::visited();
    match place {
        Child::Block(entries, node) => {
            let block = own(node);
            let slot = block.remove(key)?;
            *entries = block.len() as u8;
            Some(slot)
        }
        Child::Inner(node) => {
            let inner = own(node);
            inner.digest.clear();
            let slot = remove_here(inner, key, depth + inner.path.len())?;
            tidy(place, key, depth);
            Some(slot)
        }
    }
}

/// Which child of an inner node goes on with the key, if it is an inner node, too; and where the path to it ends.
fn below(place: &Child, key: &[u8], depth: usize) -> Option<(usize, usize)> {
    let Child::Inner(inner) = place else { return None };
    let end = depth + inner.path.len();
    let nibble = (key.len() * 2 > end).then(|| nibble(key, end))?;
    let at = inner.position(nibble)?;
    matches!(inner.children[at], Child::Inner(_)).then_some((at, end))
}

/// Removes the key from an inner node, as its value or out of a block.
fn remove_here(inner: &mut Inner, key: &[u8], end: usize) -> Option<Slot> {
    if key.len() * 2 == end {
        return inner.value.take().map(|slot| *slot);
    }
    let nibble = nibble(key, end);
    let at = inner.position(nibble)?;
    let Child::Block(entries, node) = &mut inner.children[at] else { return None };
    tally::visited();
    let block = own(node);
    let slot = block.remove(&key[end.div_ceil(2)..])?;
    *entries = block.len() as u8;
    if block.len() == 0 {
        inner.remove_child(nibble);
        inner.children.shrink_to_fit();
    }
    Some(slot)
}

/// Brings an inner node that has lost an entry into its one shape. It begins at `depth` of `key`.
fn tidy(place: &mut Child, key: &[u8], depth: usize) {
    let Child::Inner(node) = place else { return };
    let inner = own(node);
    if inner.small().is_some_and(|entries| entries <= BLOCK_ENTRIES) {
        let block = gather(mem::take(inner), key, depth);
        *place = Child::block(block);
    } else if inner.value.is_none() && inner.children.len() == 1 {
        let nibble = inner.present.trailing_zeros() as u8;
        let Some(Child::Inner(mut below)) = inner.children.pop() else { return };
        let child = own(&mut below);
        child.digest.clear();
        child.path = inner.path.join(nibble, &child.path);
        *place = Child::Inner(below);
    }
}

/// One block of an inner node whose children are blocks. It begins at `depth` of `key`, which goes on along its path.
pub(crate) fn gather(mut inner: Inner, key: &[u8], depth: usize) -> Block {
    let end = depth + inner.path.len();
    let (mut text, mut ends, mut slots) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(slot) = inner.value.take() {
        text.extend_from_slice(&key[depth / 2..end / 2]);
        ends.push(text.len());
        slots.push(*slot);
    }
    let present = inner.present;
    let nibbles = (0..16).filter(|nibble| present >> nibble & 1 == 1);
    for (nibble, child) in nibbles.zip(mem::take(&mut inner.children)) {
        let Child::Block(_, mut block) = child else { continue };
        let block = own(&mut block);
        for at in 0..block.len() {
            text.extend_from_slice(&key[depth / 2..end / 2]);
            if !end.is_multiple_of(2) {
                // The children begin with a byte of their own, so the one before it ends with their nibble.
                text.push(key[end / 2] & 0xf0 | nibble);
            }
            text.extend_from_slice(block.suffixes.get(at));
            ends.push(text.len());
        }
        slots.append(&mut block.slots);
    }
    slots.shrink_to_fit();
    let mut start = 0;
    let suffixes: Vec<&[u8]> =
        ends.iter().map(|&end| &text[mem::replace(&mut start, end)..end]).collect();
    Block::new(&suffixes, slots)
}

/// The entry of `key`.
pub(crate) fn get<'a>(mut child: &'a Child, key: &[u8]) -> Option<&'a Slot> {
    let mut depth = 0;
    loop {
        tally::visited();
        let rest = &key[depth / 2..];
        match child {
            Child::Block(_, block) => {
                return block.suffixes.find(rest).ok().map(|at| &block.slots[at]);
            }
            Child::Inner(inner) => {
                if inner.path.matching(rest) < inner.path.len() {
                    return None;
                }
                depth += inner.path.len();
                if key.len() * 2 == depth {
                    return inner.value.as_deref();
                }
                child = inner.child(nibble(key, depth))?;
                depth += 1;
            }
        }
    }
}
