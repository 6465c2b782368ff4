//! Counts of what the tree does, for tests that hold it to its bounds. Outside of tests they are nothing.

#[cfg(test)]
pub(crate) use counting::{Tally, tallied};

macro_rules! tallies {
    ($($name:ident: $what:literal),*) => {
        $(
            #[doc = $what]
            #[inline]
            pub(crate) fn $name() {
                #[cfg(test)]
                counting::COUNTS.with_borrow_mut(|counts| counts.$name += 1);
            }
        )*

        #[cfg(test)]
        mod counting {
            extern crate std;
            use core::cell::RefCell;

            /// What was done on this thread.
            #[derive(Clone, Copy, Debug, Default)]
            pub(crate) struct Tally {
                $(pub(crate) $name: usize,)*
            }

            std::thread_local! {
                pub(super) static COUNTS: RefCell<Tally> = RefCell::default();
            }

            /// What a closure does.
            pub(crate) fn tallied<T>(run: impl FnOnce() -> T) -> (T, Tally) {
                COUNTS.take();
                let result = run();
                (result, COUNTS.take())
            }
        }
    };
}

tallies! {
    visited: "A node was looked at on the way to a key.",
    copied: "A node was copied because it is shared.",
    hashed: "A node was hashed.",
    values_hashed: "A value was hashed."
}
