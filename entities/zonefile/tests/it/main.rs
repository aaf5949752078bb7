//! Record sets and zone files against those who judge them: PowerDNS, which serves the sets, and
//! BIND's tools, which say what a zone file means.

#[cfg(test)]
mod bind;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod files;
#[cfg(test)]
mod powerdns;
#[cfg(test)]
mod sets;
#[cfg(test)]
mod zones;
