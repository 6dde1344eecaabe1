//! Tests that run on both protocols of consumer groups.

#![allow(unused_imports, unused_macros, reason = "each test binary uses what it needs")]

/// Makes two tests of each function that takes a `GroupProtocol`: `classic::NAME` and `consumer::NAME`.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod classic {
            $(#[test] fn $name() { super::$name(aegis::kafka::GroupProtocol::Classic); })+
        }
        mod consumer {
            $(#[test] fn $name() { super::$name(aegis::kafka::GroupProtocol::Consumer); })+
        }
    };
}

pub(crate) use on_both;
