//! From a protocol's name in a cluster file to its type, by way of the catalog.

use crate::failure::{Failure, Outcome};
use crate::words;
use testudo_contracts::{Ordering, Profile};
use testudo_core::{Context, Decode, Encode, Evidence};
use testudo_lab::Subject;

/// The protocol of clusters that name none.
pub(crate) const DEFAULT: &str = "pbft";

/// An ordering that the production driver can run.
pub(crate) trait Runnable:
    Ordering<
        Message: Send + Sync + 'static,
        Record: Encode + Decode + Send + 'static,
        Snapshot: Encode + Decode + Send + 'static,
        Timer: Send + 'static,
        Reply: Send + 'static,
    > + Send
    + 'static
{
}

impl<O> Runnable for O where
    O: Ordering<
            Message: Send + Sync + 'static,
            Record: Encode + Decode + Send + 'static,
            Snapshot: Encode + Decode + Send + 'static,
            Timer: Send + 'static,
            Reply: Send + 'static,
        > + Send
        + 'static
{
}

/// Something that is done with a protocol's type.
pub(crate) trait Visit {
    /// What it comes to.
    type Output;
    /// Does it.
    fn visit<O: Runnable>(self) -> Self::Output;
}

macro_rules! dispatch {
    ($($name:ident: $krate:ident::$type:ident,)*) => {
        /// All names.
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// By the protocol's own rules, which every protocol's folder keeps in the same place.
        fn judge(name: &str, evidence: &Evidence, context: &Context<'_>) -> bool {
            match name {
                $(stringify!($name) => {
                    testudo_catalog::$krate::safety::is_convicted(evidence, context)
                })*
                _ => false,
            }
        }

        /// The protocol of that name, to be put to the test.
        pub(crate) fn subject(name: &str) -> Outcome<Box<dyn Subject>> {
            match name {
                $(stringify!($name) => {
                    Ok(testudo_lab::subject::<testudo_catalog::$krate::$type>())
                })*
                _ => Err(unknown(name)),
            }
        }

        fn dispatch<V: Visit>(name: &str, visit: V) -> Option<V::Output> {
            match name {
                $(stringify!($name) => Some(visit.visit::<testudo_catalog::$krate::$type>()),)*
                _ => None,
            }
        }
    };
}
testudo_catalog::for_each_protocol!(dispatch);

/// Does something with the type of the protocol of that name; refuses names that the catalog does not have.
pub(crate) fn visit<V: Visit>(name: &str, what: V) -> Outcome<V::Output> {
    dispatch(name, what).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Failure {
    Failure::refused(format!("there is no protocol `{name}`; there is {}", words::list(NAMES)))
}

/// What the protocol of that name assumes and costs.
pub(crate) fn profile(name: &str) -> Outcome<Profile> {
    struct Ask;
    impl Visit for Ask {
        type Output = Profile;
        fn visit<O: Runnable>(self) -> Profile {
            O::PROFILE
        }
    }
    visit(name, Ask)
}

/// Whether evidence convicts the accused by the rules of the protocol of that name, whoever brings it.
pub(crate) fn is_convicted(name: &str, evidence: &Evidence, context: &Context<'_>) -> bool {
    judge(name, evidence, context)
}
