//! What the tests share.

pub(crate) mod door;
pub(crate) mod http;
pub(crate) mod log;
pub(crate) mod mint;
pub(crate) mod pod;
pub(crate) mod proxy;
pub(crate) mod raw;

use std::time::Duration;

/// Longest wait of a test for something that must happen: long enough for a loaded machine, never
/// reached otherwise.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// Polls until `check` gives a value.
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let poll = async {
        loop {
            if let Some(value) = check().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(LIMIT, poll).await {
        Ok(value) => value,
        Err(_) => panic!("within {LIMIT:?} there must be {what}"),
    }
}
