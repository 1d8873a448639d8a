//! System calls that the standard library lacks; one of the two homes of unsafe code
