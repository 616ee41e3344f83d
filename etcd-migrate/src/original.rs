//! The conversion of etcd-migrate 2.0.13, byte for byte.

use std::path::Path;

use shared::disk::Disk;

use crate::error::MigrateError;
use crate::report::Report;
use crate::{Options, Progress};

pub(crate) fn migrate<D: Disk>(
    _disk: &D,
    _data_dir: &Path,
    _options: &Options,
    _progress: &mut dyn Progress,
) -> Result<Report, MigrateError> {
    Err(MigrateError::Original("not built yet".to_owned()))
}
