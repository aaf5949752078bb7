//! Real nodes with real containers, over SSH as an operator has them. Needs root, as a node is a set of
//! namespaces.
#![cfg(test)]

mod cluster;
mod disturbed;
mod leftovers;
mod life;
mod locks;
mod node;
mod parallel;
mod refusals;
