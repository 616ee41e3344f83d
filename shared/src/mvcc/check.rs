//! The checks of a request before it is proposed, in the original's order. They need no store.

use super::error::Error;
use crate::v3::pb::etcdserverpb::RangeRequest;
use crate::v3::pb::etcdserverpb::range_request::SortTarget;

/// Whether the range can be sorted as it says.
pub(super) fn check_sort(request: &RangeRequest) -> Result<(), Error> {
    match SortTarget::try_from(request.sort_target) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::InvalidSortOption),
    }
}
