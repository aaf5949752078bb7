//! Containers on real local nodes: their whole life, what fails on the way, and what is taken back.

mod actions;
pub mod bed;
mod blows;
mod clock;
mod crew;
mod deaths;
mod disturbed;
mod drained;
mod elsewhere;
mod kept;
mod life;
mod orders;
mod reconciled;
mod remains;
mod renewed;
mod repeated;
mod shop;
mod slates;
mod sold;
mod truth;
mod undone;
