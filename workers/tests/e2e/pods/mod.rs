//! Containers on real local nodes: their whole life, what fails on the way, and what is taken back.

mod bed;
mod clock;
mod disturbed;
mod drained;
mod life;
mod orders;
mod reconciled;
mod shop;
mod sold;
mod truth;
mod undone;
