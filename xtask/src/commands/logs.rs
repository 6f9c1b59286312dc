//! `logs`: prints the logs of an environment's containers.

use blueprint::container::Container;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use harness::runtime::{self, Follow};
use host::select;

use crate::{cli::Logs, context::Context, view};

/// Runs the command.
pub(crate) async fn run(args: Logs, context: &Context) -> anyhow::Result<()> {
    let environment = context.environment(args.named.name.as_deref())?;
    let pods = select::pods(&environment.record, args.pod.as_deref())?;
    let containers = match args.container {
        Some(container) => vec![container],
        None => Container::ALL.to_vec(),
    };
    let follow = if args.follow { Follow::Yes } else { Follow::No };
    let single = pods.len() * containers.len() == 1;
    let mut logs = vec![];
    for pod in pods {
        for &container in &containers {
            let prefix = if single {
                String::new()
            } else {
                format!("{}/{container}  ", view::pod_name(pod))
            };
            let lines = runtime::of(environment.record.runtime)
                .pods()
                .logs(&environment, &pod.name, container, follow)
                .await?;
            logs.push(lines.map_ok(move |line| format!("{prefix}{line}")));
        }
    }
    let work = async {
        // Followed logs are merged as they grow, finished ones printed in turn.
        let mut lines = match follow {
            Follow::Yes => stream::select_all(logs).boxed(),
            Follow::No => stream::iter(logs).flatten().boxed(),
        };
        while let Some(line) = lines.try_next().await? {
            context.output.data(line);
            if context.output.is_closed() {
                break;
            }
        }
        Ok(())
    };
    match follow {
        Follow::No => context.interrupt.unless(work).await,
        // Ctrl-C is the regular end of following.
        Follow::Yes => tokio::select! {
            result = work => result,
            _ = context.interrupt.first() => Ok(()),
        },
    }
}
