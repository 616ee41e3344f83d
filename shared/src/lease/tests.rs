//! Rules of leases.
