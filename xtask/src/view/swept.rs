//! Formats the results of `sweep`.

use harness::ops::sweep::Swept;

/// Formats one result, such as ``removed `e2e-1` and 2 clusters: its command was killed``.
///
/// If the record could not be read, the text names the folder that keeps the files.
pub(crate) fn swept(one: &Swept) -> String {
    let count = |number: usize, one: &str, many: &str| match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        number => Some(format!("{number} {many}")),
    };
    let running: Vec<_> = [
        count(one.processes, "process", "processes"),
        count(one.clusters, "cluster", "clusters"),
        count(one.namespaces, "namespace", "namespaces"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let running = match running.len() {
        0 => "no running part".into(),
        _ => running.join(" and "),
    };
    match &one.kept {
        None => format!("removed `{}` and {running}: {}", one.name, one.why),
        Some(folder) => format!(
            "ended {running} of `{}`: {}; its folder is kept as `{}`, with its keys and the messages \
             stored by its sinks: delete it when it is no longer needed",
            one.name,
            one.why,
            folder.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweep_report_lists_running_parts() {
        let swept = |processes, clusters| {
            swept(&Swept {
                name: "x".into(),
                why: "its command was killed".into(),
                processes,
                clusters,
                namespaces: 0,
                kept: None,
            })
        };
        assert_eq!(
            swept(0, 2),
            "removed `x` and 2 clusters: its command was killed"
        );
        assert!(swept(1, 1).contains("and 1 process and 1 cluster:"));
        assert!(swept(0, 0).contains("and no running part:"));
    }
}
