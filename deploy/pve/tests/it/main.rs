//! What the stand-in reads and writes, without a node: command lines, formats, files.
#![cfg(test)]

mod files;
mod lines;
mod values;
