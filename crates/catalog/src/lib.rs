//! Every protocol that Testudo can run, one line each: its name on the command line and in cluster files, its crate,
//! its type. Nothing else knows them all; whoever wants to do something for each hands a macro to
//! [`for_each_protocol`].
#![no_std]
#![forbid(unsafe_code)]

/// Calls the macro of that name with all protocols, as `name: crate::Type,` each. Outside of this crate the type is
/// found as `testudo_catalog::crate::Type`.
#[macro_export]
macro_rules! for_each_protocol {
    ($use:ident) => {
        $use! {
            pbft: testudo_pbft::Pbft,
        }
    };
}

macro_rules! export {
    ($($name:ident: $krate:ident::$type:ident,)*) => {
        $(pub use $krate;)*
    };
}
for_each_protocol!(export);
