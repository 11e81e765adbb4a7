//! What every transport does with an exchange: who it is, the line that the log gets of it, and how its large bodies
//! are worked on.

pub mod access;
pub mod aside;
pub mod trace;
