//! Checks that a setting is within its range.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::BuildError;

/// The longest time that a setting may have.
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Checks that a value is within its range.
pub(crate) fn check<T: fmt::Debug + PartialOrd>(
    setting: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), BuildError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(BuildError::OutOfRange { setting, value: format!("{value:?}"), range: format!("{range:?}") })
}
