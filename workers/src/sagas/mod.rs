//! What jobs do, one file a kind.

pub mod activation;
pub mod analyze;
pub mod apply;
pub mod certificate;
pub mod cloudpod;
pub mod enroll;
pub mod hosting;
mod steps;
