//! What a store drops, and why.

use journal::{Journal, JournalError};

use crate::config::{Retention, WhenFull};

use super::record;

/// What made records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// Too many messages.
    Messages,
    /// Too many bytes.
    Bytes,
    /// Too old.
    Age,
    /// Every reader has read them, and room was needed.
    Read,
}

impl Cause {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Messages, Self::Bytes, Self::Age, Self::Read];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Read => "read",
        }
    }
}

/// Returns the oldest record to keep, and why others go; `None` if all stay. `all_read` is the index
/// through which every reader has read.
///
/// A store that is over a limit drops a 64th of the limit more, so that it need not do it with each
/// batch.
pub(super) fn oldest_to_keep(
    retention: &Retention,
    journal: &Journal,
    all_read: Option<u64>,
    now_ms: u64,
) -> Result<Option<(u64, Cause)>, JournalError> {
    let (oldest, next) = (journal.oldest(), journal.next());
    let refuses = retention.when_full == WhenFull::Refuse;
    // The newest record stays, however large it is, unless it was read.
    let most = match refuses {
        true => all_read.map_or(0, |read| read + 1).min(next),
        false => next.saturating_sub(1),
    };
    // A store that refuses makes room before it is over its limit.
    let is_over = |number: u64, limit: u64| match refuses {
        true => number >= limit,
        false => number > limit,
    };
    let spare = |limit: u64| limit - (limit / 64).max(u64::from(refuses)).min(limit);
    let mut found = None;
    let mut drop_to = |target: u64, cause: Cause| {
        let target = target.min(most);
        if target > found.map_or(oldest, |(target, _)| target) {
            let cause = if refuses { Cause::Read } else { cause };
            found = Some((target, cause));
        }
    };
    if is_over(journal.records(), retention.messages) {
        drop_to(next - spare(retention.messages), Cause::Messages);
    }
    if is_over(journal.bytes(), retention.bytes) {
        drop_to(journal.oldest_within(spare(retention.bytes))?, Cause::Bytes);
    }
    if let Some(age) = retention.age {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        drop_to(
            first_after(journal, now_ms.saturating_sub(age_ms))?,
            Cause::Age,
        );
    }
    Ok(found)
}

/// Returns the index of the first record that was stored at `ms` or later.
fn first_after(journal: &Journal, ms: u64) -> Result<u64, JournalError> {
    let (mut low, mut high) = (journal.oldest(), journal.next());
    while low < high {
        let middle = low + (high - low) / 2;
        match stored_ms(journal, middle)? {
            Some(stored) if stored < ms => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Returns when a record was stored, in milliseconds since 1970.
pub(super) fn stored_ms(journal: &Journal, index: u64) -> Result<Option<u64>, JournalError> {
    let record = journal.reader().read(index.saturating_sub(1), 1, 1)?;
    let record = record.first();
    Ok(record.and_then(|(_, body)| Some(record::key_and_time(body)?.1)))
}
