//! The sandbox as its callers see it: through async-stripe's client and verifier where those offer
//! the call, and over plain HTTP elsewhere.
#![cfg(test)]

mod delivery;
mod edges;
mod faults;
mod life;
mod lists;
mod money;
mod support;
