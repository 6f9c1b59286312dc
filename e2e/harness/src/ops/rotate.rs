//! Shows, rotates, exports and imports the authorities and roots of a running environment under
//! traffic.
//!
//! The new state is first written to the state folder, then sent to the pods, then confirmed
//! there: in what `wosp`
//! publishes and in what Envoy has taken of it. So a command that is killed can be run again to the same end.

mod clusters;
mod live;
mod pinholes;
mod reach;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use blueprint::failure::Failure;
use futures_util::future::{join_all, try_join_all};
use host::{
    environment::{Environment, Name, Store},
    select,
    timeline::{Step, Timeline},
    wait::{Seen, Wait},
};
use identity::{self, Authority, CertificateReport, Root, Signed, Succession};
use jiff::{Timestamp, Unit};
use messages::WorkloadName;
use serde::Serialize;

use live::Wanted;
use reach::Reach;

pub use live::Live;

/// Longest time from a replaced authority to an identity of it in a pod's Envoy: without a
/// notification kubelet may take 90 s.
const LIMIT: Duration = Duration::from_secs(150);
/// Longest pause between two looks at a pod.
const PAUSE: Duration = Duration::from_secs(1);
/// Looks after which kubelet is notified again: the first time, its own copy of the Secret may
/// have been the old one.
const LOOKS_BEFORE_NUDGE: u32 = 10;

/// Identities of an environment.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    pub environment: String,
    /// A change of the root has begun and not ended.
    pub unfinished: bool,
    pub roots: Vec<RootState>,
    pub pods: Vec<PodIdentity>,
}

/// A root that trails may go back to.
#[derive(Clone, Debug, Serialize)]
pub struct RootState {
    pub standing: Standing,
    /// Whether its key is in the state folder.
    pub key_is_here: bool,
    #[serde(flatten)]
    pub certificate: CertificateReport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Current,
    /// About to be the current one.
    Next,
    /// Trails that were signed below it can still be checked; no pod trusts it.
    Retired,
}

/// Who a pod is, and with whom it speaks.
#[derive(Clone, Debug, Serialize)]
pub struct PodIdentity {
    pub pod: WorkloadName,
    /// The pods whose connections it accepts.
    pub admits: Vec<WorkloadName>,
    /// The pods that it connects to.
    pub connects_to: Vec<WorkloadName>,
    /// Its authority in the state folder.
    pub authority: CertificateReport,
    /// What its running pods serve; usually one.
    pub live: Vec<Live>,
    /// Why that is not known.
    pub trouble: Option<String>,
}

/// Who may speak to whom, and with what; of the pods that `wanted` means, see [`select::pods`].
pub async fn show(environment: &Environment, wanted: Option<&str>) -> anyhow::Result<Overview> {
    let record = &environment.record;
    let meant = select::pods(record, wanted)?;
    let folder = environment.layout().identity();
    let current = Root::load(&folder)?;
    let next = Succession::pending(&folder)?;
    let mut roots = vec![];
    for der in identity::trusted_roots(&folder)? {
        let standing = if der == *current.certificate_der() {
            Standing::Current
        } else if next
            .as_ref()
            .is_some_and(|next| der == *next.root().certificate_der())
        {
            Standing::Next
        } else {
            Standing::Retired
        };
        let key_is_here = match (standing, &next) {
            (Standing::Current, _) => current.has_key(),
            (Standing::Next, Some(next)) => next.root().has_key(),
            _ => false,
        };
        roots.push(RootState {
            standing,
            key_is_here,
            certificate: CertificateReport::of(&der).context("read a root back")?,
        });
    }
    roots.sort_by_key(|root| std::cmp::Reverse(root.certificate.not_after));
    let reach = Reach::of(environment).await;
    let looks = join_all(meant.iter().map(|pod| async {
        match &reach {
            Ok(reach) => reach.look(&pod.name).await,
            Err(error) => anyhow::bail!("{error:#}"),
        }
    }))
    .await;
    let mut pods = vec![];
    for (pod, look) in meant.into_iter().zip(looks) {
        let name = &pod.name;
        let admits = record
            .pods
            .iter()
            .filter(|other| other.downstreams.contains(name));
        let (live, trouble) = match look {
            Ok(live) => (live, None),
            Err(error) => (vec![], Some(format!("{error:#}"))),
        };
        pods.push(PodIdentity {
            pod: name.clone(),
            admits: admits.map(|other| other.name.clone()).collect(),
            connects_to: pod.downstreams.clone(),
            authority: load(environment, name)?.report()?,
            live,
            trouble,
        });
    }
    Ok(Overview {
        environment: record.name.clone(),
        unfinished: next.is_some(),
        roots,
        pods,
    })
}

/// Gives the pods that `wanted` means new authorities of the same root, and waits until each has an identity of it; a
/// pinhole's certificate is renewed where it is old. Returns how many.
pub async fn rotate(
    store: &Store,
    name: &Name,
    wanted: Option<&str>,
    timeline: &Timeline,
) -> anyhow::Result<usize> {
    let _lock = store.lock(name, timeline).await?;
    let environment = store.load(name)?;
    environment.is_here()?;
    let folder = environment.layout().identity();
    refuse_unfinished(&folder)?;
    let root = Root::load(&folder)?;
    let mut fresh = BTreeMap::new();
    let meant = select::pods(&environment.record, wanted)?;
    for pod in &meant {
        fresh.insert(pod.name.clone(), root.authority(&pod.name)?);
    }
    let count = fresh.len();
    let reach = all_answer(&environment, timeline).await?;
    put_in_force(&environment, &reach, fresh, "new authorities", timeline).await?;
    pinholes::renew(&environment, &reach, &root, &meant).await?;
    Ok(count)
}

/// Replaces the root by a new one of Ferry's own, or completes a replacement that was begun, whosever root it brings.
pub async fn rotate_root(store: &Store, name: &Name, timeline: &Timeline) -> anyhow::Result<()> {
    let _lock = store.lock(name, timeline).await?;
    let environment = store.load(name)?;
    environment.is_here()?;
    let folder = environment.layout().identity();
    let reach = all_answer(&environment, timeline).await?;
    let succession = match Succession::pending(&folder)? {
        Some(begun) => {
            timeline.note("a replacement of the root was begun; it is completed");
            begun
        }
        None => {
            // A distinct name, so that an operator can distinguish it from the previous one.
            let made = Timestamp::now().round(Unit::Second)?;
            let root = Root::create(&format!("{name} {made}"))?;
            let pods = environment.record.pods.iter();
            let authorities = pods
                .map(|pod| Ok((pod.name.clone(), root.authority(&pod.name)?)))
                .collect::<anyhow::Result<_>>()?;
            Succession::begin(&folder, root, &authorities)?
        }
    };
    succeed(&environment, &reach, succession, timeline).await
}

/// Writes a request for an authority of each pod that is meant, all where none is named, into the folder `out`, which is made
/// where missing. Returns the files.
pub async fn export(
    store: &Store,
    name: &Name,
    wanted: &[String],
    out: &Path,
    timeline: &Timeline,
) -> anyhow::Result<Vec<PathBuf>> {
    let _lock = store.lock(name, timeline).await?;
    let environment = store.load(name)?;
    environment.is_here()?;
    let mut pods = vec![];
    for wanted in wanted {
        pods.extend(select::pods(&environment.record, Some(wanted))?);
    }
    if wanted.is_empty() {
        pods.extend(&environment.record.pods);
    }
    let unwritable = |error: std::io::Error| {
        Failure::usage(format!("cannot write into `{}`: {error}", out.display()))
            .hint("pass another `--out`")
    };
    fs::create_dir_all(out).map_err(unwritable)?;
    let mut files = vec![];
    for pod in pods {
        let text = identity::request(&environment.layout().identity(), &pod.name)?;
        let file = out.join(identity::request_file(&pod.name));
        fs::write(&file, text).map_err(unwritable)?;
        files.push(file);
    }
    Ok(files)
}

/// Checks the certificates in `from` and switches the pods to them: under the root of now just as
/// [`rotate`], under another as
/// [`rotate_root`]. Returns how many.
pub async fn import(
    store: &Store,
    name: &Name,
    from: &Path,
    timeline: &Timeline,
) -> anyhow::Result<usize> {
    let _lock = store.lock(name, timeline).await?;
    let environment = store.load(name)?;
    environment.is_here()?;
    let folder = environment.layout().identity();
    refuse_unfinished(&folder)?;
    let pods = environment.record.pods.iter().map(|pod| &pod.name);
    let signed = Signed::read(&folder, from, &pods.collect::<Vec<_>>())?;
    let count = signed.authorities.len();
    let reach = all_answer(&environment, timeline).await?;
    let known = Root::load(&folder)?;
    if known.certificate_der() == signed.root.certificate_der() {
        let what = "authorities of the same root";
        put_in_force(&environment, &reach, signed.authorities, what, timeline).await?;
    } else {
        let succession = Succession::begin(&folder, signed.root, &signed.authorities)?;
        succeed(&environment, &reach, succession, timeline).await?;
    }
    Ok(count)
}

/// Both roots are trusted everywhere, then every pod gets an authority of the new one and every pinhole a certificate, then
/// the old one goes. Each step is
/// confirmed in every pod before the next begins, so a pod never meets an identity that it does
/// not accept.
async fn succeed(
    environment: &Environment,
    reach: &Reach<'_>,
    succession: Succession,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    let names: Vec<_> = environment
        .record
        .pods
        .iter()
        .map(|pod| pod.name.clone())
        .collect();
    let new = succession.root().certificate_pem();
    let mut trusting = BTreeMap::new();
    let mut reissued = BTreeMap::new();
    let mut alone = BTreeMap::new();
    for name in &names {
        let now = load(environment, name)?;
        let mut both = now.roots_pem().to_owned();
        if !both.contains(new.trim()) {
            both = format!("{}\n{new}", both.trim_end());
        }
        let next = || succession.authority(name);
        reissued.insert(name.clone(), next()?.trusting(both.clone()));
        alone.insert(name.clone(), next()?.trusting(new.to_owned()));
        trusting.insert(name.clone(), now.trusting(both));
    }
    put_in_force(
        environment,
        reach,
        trusting,
        "trust in the new root",
        timeline,
    )
    .await?;
    let what = "authorities of the new root";
    put_in_force(environment, reach, reissued, what, timeline).await?;
    pinholes::succeed(environment, reach, succession.root(), timeline).await?;
    succession.promote()?;
    let what = "trust in the new root alone";
    put_in_force(environment, reach, alone, what, timeline).await?;
    succession.finish()
}

/// Writes the authorities, sends them to their pods, and waits until every pod uses its own; all
/// pods concurrently.
async fn put_in_force(
    environment: &Environment,
    reach: &Reach<'_>,
    authorities: BTreeMap<WorkloadName, Authority>,
    what: &str,
    timeline: &Timeline,
) -> anyhow::Result<()> {
    timeline
        .run(format!("put {what} in force"), |step| async move {
            let (environment, step) = (environment, &*step);
            let all = authorities.into_iter().map(|(name, authority)| async move {
                authority.save(&environment.layout().authority(&name))?;
                reach.bring(&name, &authority).await?;
                wait(reach, &name, &Wanted::of(&authority)?, step).await?;
                identity::drop_request(&environment.layout().identity(), &name, &authority)
            });
            try_join_all(all).await.map(drop)
        })
        .await
}

async fn wait(
    reach: &Reach<'_>,
    name: &WorkloadName,
    wanted: &Wanted,
    step: &Step,
) -> anyhow::Result<()> {
    let what = format!(
        "{} in {} to have its new authority in force",
        name.pod(),
        name.cluster()
    );
    in_force(what, reach, name, step, || async {
        Ok(match reach.look(name).await {
            Ok(all) => match all.iter().find_map(|live| wanted.obstacle(live)) {
                None => Seen::Ready(()),
                Some(obstacle) => Seen::Waiting(obstacle),
            },
            Err(error) => Seen::Waiting(format!("{error:#}")),
        })
    })
    .await
}

/// Looks until `look` sees in a pod what was brought to it; notifies the pod again at intervals.
async fn in_force<L, F>(
    what: String,
    reach: &Reach<'_>,
    name: &WorkloadName,
    step: &Step,
    look: L,
) -> anyhow::Result<()>
where
    L: Fn() -> F,
    F: Future<Output = anyhow::Result<Seen<()>>>,
{
    let looks = AtomicU32::new(0);
    Wait::until(what)
        .within(LIMIT)
        .looking_every(PAUSE)
        .hint(
            "run `cargo xtask status` for its state; run the command again to continue where \
               it stopped",
        )
        .showing(step)
        .poll(|| async {
            if looks.fetch_add(1, Ordering::Relaxed) % LOOKS_BEFORE_NUDGE == LOOKS_BEFORE_NUDGE - 1
            {
                reach.nudge(name).await?;
            }
            look().await
        })
        .await
}

/// Fails without a change unless every pod reports its identity: a pod that is down would delay
/// the others.
async fn all_answer<'a>(
    environment: &'a Environment,
    timeline: &Timeline,
) -> anyhow::Result<Reach<'a>> {
    timeline
        .run("ask every pod for its identity", |_| async {
            let reach = Reach::of(environment).await?;
            try_join_all(environment.record.pods.iter().map(|pod| async {
                reach.look(&pod.name).await.map_err(|error| {
                    error.context(
                        Failure::infrastructure(format!(
                            "{} in {} does not report its identity; nothing was changed",
                            pod.name.pod(),
                            pod.name.cluster()
                        ))
                        .hint(
                            "run `cargo xtask status` for its state; run the command again when \
                             every pod is ready",
                        ),
                    )
                })
            }))
            .await?;
            Ok(reach)
        })
        .await
}

fn refuse_unfinished(folder: &Path) -> anyhow::Result<()> {
    match Succession::pending(folder)? {
        None => Ok(()),
        Some(_) => Err(Failure::usage("a rotation of the root is incomplete")
            .hint("run `cargo xtask identity rotate --root` to complete it")
            .into()),
    }
}

fn load(environment: &Environment, name: &WorkloadName) -> anyhow::Result<Authority> {
    Authority::load(&environment.layout().authority(name))
}
