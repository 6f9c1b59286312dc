use e2e::{pinhole::Pinhole, select, trail::StoredMessage};
use serde::Serialize;

use crate::{cli::Trail, context::Context, view};

/// One line of `--json`. The message stands whole and untouched in it, payload byte for byte.
#[derive(Serialize)]
struct Line<'a> {
    sink: &'a str,
    cluster: &'a str,
    stored: &'a StoredMessage,
}

pub(crate) async fn run(args: Trail, context: &Context) -> anyhow::Result<()> {
    let environment = context.environment(args.name.as_deref())?;
    let record = &environment.record;
    for blueprint in record.blueprints.keys() {
        for sink in select::sinks(record, blueprint) {
            let (pod, cluster) = (sink.name.pod(), sink.name.cluster());
            if sink.token_file.is_none() {
                context.output.warn(format!(
                    "{pod} in {cluster} has no pinhole: its messages cannot be read"
                ));
                continue;
            }
            let pinhole = Pinhole::of(sink)?;
            let output = context.interrupt.unless(pinhole.output(0)).await?;
            if !args.json {
                let style = context.output.data_style();
                context.output.data(view::stored(sink, &output, style));
                continue;
            }
            for stored in &output {
                let line = Line {
                    sink: pod,
                    cluster,
                    stored,
                };
                context.output.data(serde_json::to_string(&line)?);
                if context.output.is_closed() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
