//! Record sets and zone files against those who judge them: PowerDNS, which serves the sets, and
//! BIND's tools, which say what a zone file means.

mod bind;
mod files;
mod powerdns;
mod sets;
mod zones;
