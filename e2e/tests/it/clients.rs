//! A client in another language, made from our documents alone: Python's `websockets`, and `grpcio` from our `.proto`.
//!
//! It stands where the gateway stands, with an identity of the gateway's name, and speaks to the sink's public port.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use e2e::testing::{Ferry, or_untested, payload, payload_of, with_environment};
use harness::trail::{self, Expectation, Flow, Route, Sent, SentMessage, Station};
use host::{
    envoy_binary::ToolCache,
    process::{self, CommandLine, Done},
};
use identity::{Leaf, LeafRequest, Root};
use messages::{
    Hop, Message, Payload, Protocol, Role, Timestamp, WorkloadName, json,
    limits::MAX_PAYLOAD_BYTES, signature::Signer,
};
use rstest::rstest;
use serde_json::{Value, json};

/// The own name of the pod that the client says it is.
const POD: &str = "python-client";

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/messages/proto");

#[rstest]
#[case::websocket("fast-international-ferry", Protocol::Websocket)]
#[case::grpc("international-ferry", Protocol::Grpc)]
#[tokio::test]
async fn client_with_gateway_identity_gets_acks(
    #[case] blueprint: &str,
    #[case] protocol: Protocol,
) -> anyhow::Result<()> {
    let Some(python) = python(protocol).await? else {
        return Ok(());
    };
    with_environment(blueprint, |ferry| async move {
        // What is there already must not be mistaken for the client's.
        ferry.messages().prove().await?;
        let name = ferry.gateway()?.name;
        let leaf = leaf(&ferry, &name)?;
        let mark = ferry.messages().last_index().await?;
        let payloads = [
            payload(r#"{"deck": 1, "text": "grüße"}"#),
            payload("[1,  2.50, null]"),
            payload_of(MAX_PAYLOAD_BYTES + 1),
            payload_of(MAX_PAYLOAD_BYTES),
        ];
        let signer = Signer::from_pem(&leaf.certificate_chain_pem, &leaf.key_pem)?;
        let messages = (1..)
            .zip(payloads)
            .map(|(seq, payload)| message(&name, &signer, seq, payload));
        let messages = messages.collect::<anyhow::Result<Vec<_>>>()?;
        let done = python
            .client(&ferry, protocol, Some(&leaf), &messages)
            .await?;
        anyhow::ensure!(
            done.status.success(),
            "the client failed: {}",
            done.tail(30)
        );

        let acks: Vec<Value> = done
            .stdout
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        assert_eq!(
            acks.len(),
            messages.len(),
            "each message must have one acknowledgement: {acks:#?}"
        );
        for (message, wanted) in
            messages
                .iter()
                .zip(["delivered", "delivered", "rejected", "delivered"])
        {
            let ack = acks.iter().find(|ack| ack["id"] == message.id.to_string());
            let ack = ack.with_context(|| format!("no acknowledgement for {}", message.id))?;
            let outcome = ack["outcome"].as_str().unwrap_or_default().to_lowercase();
            assert!(
                outcome.ends_with(wanted),
                "message {} must be {wanted}, its acknowledgement is {ack:#}",
                message.seq
            );
        }

        let delivered = messages.into_iter().filter(|message| message.seq != 3);
        let sent = delivered.map(|message| SentMessage {
            id: message.id,
            payload: Some(message.payload),
            took: None,
        });
        let client = Station {
            name: name.clone(),
            role: Role::Gateway,
            pods: BTreeSet::from([POD.to_owned()]),
        };
        let expectation = Expectation {
            blueprint: blueprint.into(),
            flows: vec![Flow {
                sent: Sent::Listed(sent.collect()),
                routes: vec![Route(vec![client, Station::of(&ferry.sink()?)])],
            }],
        };
        let root = root(&ferry)?;
        trail::check(
            &expectation,
            &ferry.messages().output(mark).await?,
            &[root.certificate_der().clone()],
        )?;
        Ok(())
    })
    .await
}

#[derive(Clone, Copy, Debug)]
enum Stranger {
    /// An identity of the same root, of a pod that is no upstream of the sink.
    OtherPod,
    WithoutCertificate,
}

#[rstest]
#[tokio::test]
async fn a_stranger_gets_no_ack(
    #[values(
        ("fast-international-ferry", Protocol::Websocket),
        ("international-ferry", Protocol::Grpc)
    )]
    carried: (&str, Protocol),
    #[values(Stranger::OtherPod, Stranger::WithoutCertificate)] stranger: Stranger,
) -> anyhow::Result<()> {
    let (blueprint, protocol) = carried;
    let Some(python) = python(protocol).await? else {
        return Ok(());
    };
    with_environment(blueprint, |ferry| async move {
        ferry.messages().prove().await?;
        let mark = ferry.messages().last_index().await?;
        let name = WorkloadName::new(ferry.blueprint(), "cluster-a", "stowaway")?;
        let own = leaf(&ferry, &name)?;
        let signer = Signer::from_pem(&own.certificate_chain_pem, &own.key_pem)?;
        let messages = [message(&name, &signer, 1, payload("1"))?];
        let shown = match stranger {
            Stranger::OtherPod => Some(&own),
            Stranger::WithoutCertificate => None,
        };
        let done = python.client(&ferry, protocol, shown, &messages).await?;
        assert!(
            !done.status.success() && done.stdout.is_empty(),
            "{stranger:?} must be refused: {}",
            done.stdout
        );
        assert_eq!(
            ferry.messages().last_index().await?,
            mark,
            "nothing of {stranger:?} must be stored"
        );
        Ok(())
    })
    .await
}

fn root(ferry: &Ferry) -> anyhow::Result<Root> {
    Root::load(&ferry.environment()?.layout().identity())
}

/// An identity that the environment's root stands behind.
fn leaf(ferry: &Ferry, name: &WorkloadName) -> anyhow::Result<Leaf> {
    root(ferry)?.authority(name)?.leaf(&LeafRequest::of(name))
}

fn message(
    name: &WorkloadName,
    signer: &Signer,
    seq: u64,
    payload: Payload,
) -> anyhow::Result<Message> {
    let id = uuid::Uuid::now_v7();
    let hop = Hop {
        pod: POD.into(),
        role: Role::Gateway,
        cluster: name.cluster().into(),
        namespace: name.namespace(),
        node: "somewhere".into(),
        at: Timestamp::now(),
        signature: String::new(),
    };
    Ok(Message {
        id,
        blueprint: name.blueprint().into(),
        seq,
        payload,
        trail: vec![signer.sign(id, &[], hop)?],
    })
}

/// The message as the protocol's client reads it from its standard input.
fn line(protocol: Protocol, message: &Message) -> String {
    match protocol {
        Protocol::Websocket => json::encode_message(message),
        Protocol::Grpc => {
            let hop = |hop: &Hop| {
                json!({
                    "pod": hop.pod,
                    "role": format!("ROLE_{}", hop.role.as_str().to_uppercase()),
                    "cluster": hop.cluster,
                    "namespace": hop.namespace,
                    "node": hop.node,
                    "at": hop.at.to_string(),
                    "signature": hop.signature,
                })
            };
            json!({
                "id": message.id.to_string(),
                "blueprint": message.blueprint,
                "seq": message.seq,
                "payload": message.payload.as_str(),
                "trail": message.trail.iter().map(hop).collect::<Vec<_>>(),
            })
            .to_string()
        }
    }
}

/// A Python with what the clients need.
#[derive(Debug)]
struct Python {
    program: PathBuf,
    /// Modules made from our `.proto`.
    modules: tempfile::TempDir,
}

impl Python {
    async fn client(
        &self,
        ferry: &Ferry,
        protocol: Protocol,
        leaf: Option<&Leaf>,
        messages: &[Message],
    ) -> anyhow::Result<Done> {
        let sink = ferry.sink()?;
        let address = sink.local_address.context("the sink has no address")?;
        let folder = tempfile::tempdir()?;
        let file = |name: &str, content: &str| -> anyhow::Result<String> {
            let path = folder.path().join(name);
            std::fs::write(&path, content)?;
            Ok(path.to_string_lossy().into_owned())
        };
        let roots = file("roots.pem", root(ferry)?.certificate_pem())?;
        let (certificate, key) = match leaf {
            Some(leaf) => (
                file("leaf.pem", &leaf.certificate_chain_pem)?,
                file("leaf.key", &leaf.key_pem)?,
            ),
            None => (String::new(), String::new()),
        };
        let script = match protocol {
            Protocol::Websocket => "websocket_client.py",
            Protocol::Grpc => "grpc_client.py",
        };
        let input: Vec<_> = messages
            .iter()
            .map(|message| line(protocol, message))
            .collect();
        let command = CommandLine::new(self.program.to_string_lossy())
            .args([
                format!("{CLIENTS}/{script}"),
                address.host,
                address.port.to_string(),
            ])
            .args([sink.name.to_string(), roots, certificate, key])
            .env("PYTHONPATH", self.modules.path().to_string_lossy())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(input.join("\n"));
        process::output(&command).await
    }
}

/// A Python that can run the client, where there is one.
async fn python(protocol: Protocol) -> anyhow::Result<Option<Python>> {
    let untested = format!("the Python client over {protocol}");
    let Some(program) = or_untested(ready_python().await, &untested)? else {
        return Ok(None);
    };
    Ok(Some(Python {
        modules: modules(&program).await?,
        program,
    }))
}

/// A virtual environment in the tool cache, made once for each set of versions.
pub(crate) async fn ready_python() -> anyhow::Result<PathBuf> {
    let requirements = Path::new(CLIENTS).join("requirements.txt");
    let key = key_of(&std::fs::read(&requirements)?);
    let root = ToolCache::from_environment()
        .root
        .context("there is no folder for tools")?;
    let ready = root.join(format!("python-clients-{key}"));
    let program = ready.join("bin/python");
    if program.is_file() {
        return Ok(program);
    }
    std::fs::create_dir_all(&root)?;
    // Made aside and renamed when complete, so that two runs at once do not meet in it.
    let aside = tempfile::Builder::new()
        .prefix("python-clients-")
        .tempdir_in(&root)?;
    let run = |program: &str, args: &[&str]| {
        let command = CommandLine::new(program)
            .args(args)
            .within(Duration::from_secs(300));
        async move { process::run(&command).await }
    };
    let folder = aside.path().to_string_lossy().into_owned();
    run("python3", &["-m", "venv", &folder]).await?;
    let pip = format!("{folder}/bin/python");
    let requirements = requirements.to_string_lossy();
    let options = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
    ];
    run(
        &pip,
        &[&options[..], &["--requirement", &requirements]].concat(),
    )
    .await?;
    match std::fs::rename(aside.path(), &ready) {
        // The name is the environment's now; the folder aside is gone by it.
        Ok(()) => drop(aside.keep()),
        // Another run was faster.
        Err(_) if program.is_file() => {}
        Err(error) => {
            return Err(error).context("cannot move the virtual environment to its place");
        }
    }
    Ok(program)
}

fn key_of(content: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The Python modules of our `.proto`.
async fn modules(python: &Path) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_string_lossy();
    let command = CommandLine::new(python.to_string_lossy())
        .args(["-m", "grpc_tools.protoc", "-I", PROTO])
        .args([
            format!("--python_out={out}"),
            format!("--grpc_python_out={out}"),
        ])
        .args(["ferry/v1/relay.proto"]);
    process::run(&command).await?;
    Ok(folder)
}
