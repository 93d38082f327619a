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

/// Checks that the longest of times that grow is at most 365 days, and not below the first one. The error names both.
pub(crate) fn check_longest(
    (first_setting, first): (&'static str, Duration),
    (setting, longest): (&'static str, Duration),
) -> Result<(), BuildError> {
    check(first_setting, first, Duration::from_millis(1)..=YEAR)?;
    if (first..=YEAR).contains(&longest) {
        return Ok(());
    }
    let range = format!("{first:?} ({first_setting})..={YEAR:?}");
    Err(BuildError::OutOfRange { setting, value: format!("{longest:?}"), range })
}
