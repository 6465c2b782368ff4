//! What several worlds hold together until one of them is about to change it.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Something that forks of one world have in common. It can be read through any of them, and written by none before
/// [`Shared::own`] has given it a copy of its own: a write to what others see as well is a mistake, and panics.
#[derive(Debug)]
pub(crate) struct Shared<T>(Rc<T>);

impl<T> Shared<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self(Rc::new(inner))
    }

    /// The same, seen from one more place.
    pub(crate) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// From now on nobody else sees it.
    pub(crate) fn own(&mut self, copy: impl FnOnce(&T) -> T) {
        if Rc::get_mut(&mut self.0).is_none() {
            self.0 = Rc::new(copy(&self.0));
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        match Rc::get_mut(&mut self.0) {
            Some(inner) => inner,
            None => unreachable!("a node is written that another world sees, too"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Shared;

    #[test]
    fn what_is_owned_is_changed_for_nobody_else() {
        let first = Shared::new(1);
        let mut second = first.share();
        second.own(Clone::clone);
        *second += 1;
        assert_eq!((*first, *second), (1, 2));
    }

    #[test]
    #[should_panic(expected = "another world sees")]
    fn what_is_shared_is_not_written() {
        let mut first = Shared::new(1);
        let _second = first.share();
        *first += 1;
    }
}
