//! Resources to (Plan, Report): pure and total.
