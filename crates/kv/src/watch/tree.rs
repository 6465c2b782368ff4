//! Which of many ranges hold a key: a balanced tree of ranges, in the order of their beginnings.
//!
//! Every node knows how far the ranges of its subtree reach, so a search leaves out each subtree that ends before the
//! key, and each that begins after it. Below a node that begins at or before the key, every subtree that is not left
//! out holds a match; so a search visits as many nodes as the tree is deep, and that many again for each match. The
//! tree is balanced by heights (an AVL tree), whatever ranges clients choose in whatever order.

use crate::operation::Bytes;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use core::cmp::Ordering;

/// Where a range ends. The derived order is the order of the ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum End {
    /// Before this key.
    Before(Bytes),
    /// Nowhere.
    Never,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => &end[..] > key,
            Self::Never => true,
        }
    }
}

/// Ranges, each with those who hold it.
#[derive(Debug)]
pub(super) struct Tree<T> {
    root: Link<T>,
}

type Link<T> = Option<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    from: Bytes,
    to: End,
    holders: BTreeSet<T>,
    /// The furthest end in this subtree.
    reach: End,
    /// Nodes on the longest way down, this one included.
    height: u8,
    left: Link<T>,
    right: Link<T>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<T: Ord + Copy> Tree<T> {
    /// Adds a holder of a range.
    pub(super) fn insert(&mut self, from: &Bytes, to: &End, holder: T) {
        self.root = Some(insert(self.root.take(), from, to, holder));
    }

    /// Removes a holder of a range, and the range with its last one.
    pub(super) fn remove(&mut self, from: &Bytes, to: &End, holder: &T) {
        self.root = remove(self.root.take(), from, to, holder);
    }

    /// Visits the holders of all ranges that hold `key`.
    pub(super) fn visit(&self, key: &[u8], visit: &mut dyn FnMut(T)) {
        search(&self.root, key, visit);
    }

    /// How many nodes a search for `key` looks at.
    #[cfg(test)]
    pub(super) fn cost(&self, key: &[u8]) -> usize {
        fn cost<T>(link: &Link<T>, key: &[u8]) -> usize {
            let Some(node) = link.as_ref().filter(|node| node.reach.is_after(key)) else {
                return 0;
            };
            let right = if &node.from[..] <= key { cost(&node.right, key) } else { 0 };
            1 + cost(&node.left, key) + right
        }
        cost(&self.root, key)
    }

    /// Checks order, balance and reaches; gives how many nodes there are, and the height.
    #[cfg(test)]
    pub(super) fn audit(&self) -> (usize, u8) {
        fn audit<T>(link: &Link<T>) -> usize {
            let Some(node) = link else { return 0 };
            let count = 1 + audit(&node.left) + audit(&node.right);
            let (left, right) = (height(&node.left), height(&node.right));
            assert!(left.abs_diff(right) <= 1, "out of balance");
            assert_eq!(node.height, 1 + left.max(right), "a wrong height");
            assert!(!node.holders.is_empty(), "a range without a holder");
            let mut reach = node.to.clone();
            for child in [&node.left, &node.right].into_iter().flatten() {
                reach = reach.max(child.reach.clone());
            }
            assert_eq!(node.reach, reach, "a wrong reach");
            let place = (&node.from, &node.to);
            assert!(node.left.as_ref().is_none_or(|left| (&left.from, &left.to) < place));
            assert!(node.right.as_ref().is_none_or(|right| (&right.from, &right.to) > place));
            count
        }
        (audit(&self.root), height(&self.root))
    }
}

impl<T> Node<T> {
    fn order(&self, from: &Bytes, to: &End) -> Ordering {
        (from, to).cmp(&(&self.from, &self.to))
    }

    /// Recomputes what is known of the subtree after a child has changed.
    fn update(&mut self) {
        self.height = 1 + height(&self.left).max(height(&self.right));
        let furthest = [&self.left, &self.right]
            .into_iter()
            .flatten()
            .map(|child| &child.reach)
            .fold(&self.to, |a, b| a.max(b));
        if self.reach != *furthest {
            self.reach = furthest.clone();
        }
    }
}

fn height<T>(link: &Link<T>) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

fn search<T: Copy>(link: &Link<T>, key: &[u8], visit: &mut dyn FnMut(T)) {
    let Some(node) = link.as_ref().filter(|node| node.reach.is_after(key)) else { return };
    search(&node.left, key, visit);
    if &node.from[..] <= key {
        if node.to.is_after(key) {
            node.holders.iter().for_each(|holder| visit(*holder));
        }
        search(&node.right, key, visit);
    }
}

fn insert<T: Ord>(link: Link<T>, from: &Bytes, to: &End, holder: T) -> Box<Node<T>> {
    let Some(mut node) = link else {
        return Box::new(Node {
            from: from.clone(),
            to: to.clone(),
            holders: BTreeSet::from([holder]),
            reach: to.clone(),
            height: 1,
            left: None,
            right: None,
        });
    };
    match node.order(from, to) {
        Ordering::Less => node.left = Some(insert(node.left.take(), from, to, holder)),
        Ordering::Greater => node.right = Some(insert(node.right.take(), from, to, holder)),
        Ordering::Equal => {
            node.holders.insert(holder);
            return node;
        }
    }
    balance(node)
}

fn remove<T: Ord>(link: Link<T>, from: &Bytes, to: &End, holder: &T) -> Link<T> {
    let mut node = link?;
    match node.order(from, to) {
        Ordering::Less => node.left = remove(node.left.take(), from, to, holder),
        Ordering::Greater => node.right = remove(node.right.take(), from, to, holder),
        Ordering::Equal => {
            node.holders.remove(holder);
            if node.holders.is_empty() {
                return join(node.left.take(), node.right.take());
            }
        }
    }
    Some(balance(node))
}

/// One tree of two whose heights differ by one at most, all of the first before all of the second.
fn join<T>(left: Link<T>, right: Link<T>) -> Link<T> {
    let Some(right) = right else { return left };
    let (mut first, right) = take_first(right);
    first.left = left;
    first.right = right;
    Some(balance(first))
}

/// Takes the first node out of a subtree.
fn take_first<T>(mut node: Box<Node<T>>) -> (Box<Node<T>>, Link<T>) {
    match node.left.take() {
        None => {
            let rest = node.right.take();
            (node, rest)
        }
        Some(left) => {
            let (first, rest) = take_first(left);
            node.left = rest;
            (first, Some(balance(node)))
        }
    }
}

/// Restores the balance of a node of which one child has changed its height by one.
fn balance<T>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    let (left, right) = (height(&node.left), height(&node.right));
    if left > right + 1 {
        node.left = node.left.take().map(|child| {
            if height(&child.right) > height(&child.left) { rotate_left(child) } else { child }
        });
        return rotate_right(node);
    }
    if right > left + 1 {
        node.right = node.right.take().map(|child| {
            if height(&child.left) > height(&child.right) { rotate_right(child) } else { child }
        });
        return rotate_left(node);
    }
    node.update();
    node
}

fn rotate_right<T>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    if let Some(mut top) = node.left.take() {
        node.left = top.right.take();
        node.update();
        top.right = Some(node);
        node = top;
    }
    node.update();
    node
}

fn rotate_left<T>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    if let Some(mut top) = node.right.take() {
        node.right = top.left.take();
        node.update();
        top.left = Some(node);
        node = top;
    }
    node.update();
    node
}
