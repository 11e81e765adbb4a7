//! What every transport does with an exchange: who it is, the line that the log gets of it, what its body may
//! take, and how large ones are worked on.

pub mod access;
pub mod aside;
pub mod bodies;
pub mod trace;
