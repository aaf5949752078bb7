//! Tests of the whole crate through its public doors.

#[cfg(test)]
mod archives;
#[cfg(test)]
mod broken;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod sql;
