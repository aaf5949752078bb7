//! Containers on real local nodes: their whole life, what fails on the way, and what is taken back.

pub mod bed;
mod disturbed;
mod life;
mod reconciled;
mod undone;
