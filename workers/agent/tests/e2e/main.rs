//! The agent on a real Debian 12 server: enrolled, driven over SSH as the worker drives it, and looked
//! at by ordinary clients. Needs root, as the server is a container of systemd-nspawn.
#![cfg(test)]

mod accuracy;
mod attacks;
mod clients;
mod dkim;
mod hostile;
mod isolation;
mod kills;
mod losses;
mod priority;
mod road;
mod second;
mod target;
mod trust;
mod variety;
