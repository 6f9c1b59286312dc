//! Trails that are evidence, and what an attacker would make of them.

use messages::{
    Hop, Role, WorkloadName,
    signature::{HopProblem, Signer, TrailError, TrailVerifier, verify_trail},
};
use rustls_pki_types::CertificateDer;
use uuid::Uuid;

use crate::{
    independent,
    mint::{self, Issuer, Leaf, at, hop},
};

mod format;

/// Three pods of one environment and a message that went through them.
struct Path {
    roots: Vec<CertificateDer<'static>>,
    root: Issuer,
    authorities: [Issuer; 3],
    leaves: [Leaf; 3],
    names: [WorkloadName; 3],
    id: Uuid,
    trail: Vec<Hop>,
}

const ROLES: [Role; 3] = [Role::Gateway, Role::Processor, Role::Sink];

impl Path {
    fn new() -> Self {
        let root = mint::root();
        let names = [
            ("gateway", "cluster-a"),
            ("processor", "cluster-b"),
            ("sink", "cluster-c"),
        ]
        .map(|(pod, cluster)| mint::workload(pod, cluster));
        let authorities = names.each_ref().map(|name| mint::authority(&root, name));
        let leaf = |index: usize| mint::leaf(&authorities[index], &names[index]);
        let leaves = [leaf(0), leaf(1), leaf(2)];
        let id = Uuid::now_v7();
        let mut trail = Vec::new();
        for (index, leaf) in leaves.iter().enumerate() {
            let own = hop(&names[index], ROLES[index], 10 * index as u8);
            let signed = leaf.signer().sign(id, &trail, own).unwrap();
            trail.push(signed);
        }
        Self {
            roots: mint::roots(&root),
            root,
            authorities,
            leaves,
            names,
            id,
            trail,
        }
    }

    fn own_hop(&self, index: usize) -> Hop {
        hop(&self.names[index], ROLES[index], 10 * index as u8)
    }

    /// The trail with one hop signed by `leaf`, by the second implementation.
    fn with(&self, index: usize, leaf: &Leaf, hop: Hop) -> Vec<Hop> {
        let mut trail = self.trail[..index].to_vec();
        let signed = independent::sign(leaf, self.id, &trail, hop);
        trail.push(signed);
        trail
    }

    /// Every broken hop and what is wrong with it, in one word.
    fn broken(&self, trail: &[Hop]) -> Vec<(usize, &'static str)> {
        let mut verifier = TrailVerifier::new(&self.roots).unwrap();
        let Err(errors) = verifier.examine(self.id, trail) else {
            return vec![];
        };
        let broken = errors.iter().map(|error| match error {
            TrailError::Hop { index, problem, .. } => (*index, problem.word()),
            other => panic!("`{other}` must name a hop"),
        });
        broken.collect()
    }

    #[track_caller]
    fn assert_problem(&self, trail: &[Hop], index: usize, text: &str) -> HopProblem {
        let error = verify_trail(self.id, trail, &self.roots).unwrap_err();
        let said = error.to_string();
        let TrailError::Hop {
            index: at,
            pod,
            problem,
        } = error
        else {
            panic!("`{said}` must name a hop");
        };
        assert_eq!(
            (at, pod.as_str()),
            (index, trail[index].pod.as_str()),
            "{said}"
        );
        assert!(said.contains(text), "`{said}` must say `{text}`");
        *problem
    }
}

#[test]
fn trail_names_its_signers() {
    let path = Path::new();
    assert_eq!(
        verify_trail(path.id, &path.trail, &path.roots).unwrap(),
        path.names
    );
    assert_eq!(verify_trail(path.id, &[], &path.roots).unwrap(), []);
}

#[test]
fn trail_of_another_implementation_verifies() {
    let path = Path::new();
    let mut trail = Vec::new();
    for (index, leaf) in path.leaves.iter().enumerate() {
        let signed = independent::sign(leaf, path.id, &trail, path.own_hop(index));
        trail.push(signed);
    }
    assert_eq!(
        verify_trail(path.id, &trail, &path.roots).unwrap(),
        path.names
    );
}

#[test]
fn altered_hop_is_named() {
    let path = Path::new();
    let alterations: [fn(&mut Hop); 6] = [
        |hop| hop.pod.push('x'),
        |hop| hop.role = Role::Sink,
        |hop| hop.cluster = "cluster-c".into(),
        |hop| hop.namespace = "elsewhere".into(),
        |hop| hop.node.clear(),
        |hop| hop.at = at("2026-11-22T18:53:10.000002Z"),
    ];
    for alter in alterations {
        let mut trail = path.trail.clone();
        alter(&mut trail[1]);
        let problem = path.assert_problem(&trail, 1, "altered");
        assert_eq!(
            problem,
            HopProblem::Altered {
                signer: path.names[1].clone()
            }
        );
    }
}

#[test]
fn forged_signature_is_named() {
    let path = Path::new();
    let mut trail = path.trail.clone();
    // The header of the sink's identity with a signature by another key.
    let (header, _) = trail[2].signature.rsplit_once('.').unwrap();
    let (_, foreign) = trail[1].signature.rsplit_once('.').unwrap();
    trail[2].signature = format!("{header}.{foreign}");
    path.assert_problem(&trail, 2, "forged");
    // The gateway signs with the sink's certificates.
    let thief = Leaf {
        chain: path.leaves[2].chain.clone(),
        chain_pem: path.leaves[2].chain_pem.clone(),
        key_pem: path.leaves[0].key_pem.clone(),
    };
    path.assert_problem(&path.with(2, &thief, path.own_hop(2)), 2, "forged");
}

#[test]
fn changed_trail_breaks_the_next_hash() {
    let path = Path::new();
    let pick = |order: &[usize]| {
        order
            .iter()
            .map(|&index| path.trail[index].clone())
            .collect::<Vec<_>>()
    };
    for (order, broken) in [
        (&[1, 2][..], &[(0, "dropped")][..]),
        (&[0, 2], &[(1, "dropped")]),
        (&[2, 1], &[(0, "dropped")]),
        (&[1, 0, 2], &[(0, "reordered"), (1, "reordered")]),
        (&[0, 2, 1], &[(1, "reordered"), (2, "reordered")]),
        (&[0, 0, 1, 2], &[(1, "repeated")]),
        (&[0, 1, 2, 1], &[(3, "repeated")]),
    ] {
        assert_eq!(path.broken(&pick(order)), broken, "{order:?}");
        path.assert_problem(&pick(order), broken[0].0, "hash of the trail before it");
    }
    // A hop of another pod that fits at its place; those after it were signed without it.
    let mut trail = path.trail[..1].to_vec();
    let stranger = path.leaves[2]
        .signer()
        .sign(path.id, &trail, path.own_hop(2));
    trail.push(stranger.unwrap());
    trail.push(path.trail[1].clone());
    trail.push(path.trail[2].clone());
    assert_eq!(path.broken(&trail), [(2, "added")]);
    // A hop that was signed again does not fit those after it.
    let mut trail = path.with(0, &path.leaves[0], path.own_hop(0));
    trail.extend_from_slice(&path.trail[1..]);
    path.assert_problem(&trail, 1, "hash of the trail before it");
}

#[test]
fn only_broken_hops_are_named() {
    let path = Path::new();
    let mut trail = path.trail.clone();
    trail[0].node = "elsewhere".into();
    assert_eq!(path.broken(&trail), [(0, "altered")]);
    trail[2].role = Role::Gateway;
    assert_eq!(path.broken(&trail), [(0, "altered"), (2, "altered")]);
    trail[1].signature.clear();
    let all = [(0, "altered"), (1, "unsigned"), (2, "altered")];
    assert_eq!(path.broken(&trail), all);
}

#[test]
fn overlong_trail_is_refused_unverified() {
    let path = Path::new();
    let trail = vec![path.trail[0].clone(); 34];
    let error = verify_trail(path.id, &trail, &path.roots).unwrap_err();
    let expected = TrailError::TooLong {
        hops: 34,
        limit: 33,
    };
    assert_eq!(error, expected);
}

#[test]
fn replayed_trail_names_its_original_id() {
    let path = Path::new();
    let other = Uuid::now_v7();
    let error = verify_trail(other, &path.trail, &path.roots).unwrap_err();
    let expected = HopProblem::Replayed {
        signer: path.names[0].clone(),
        signed: path.id,
        found: other,
    };
    assert_eq!(error.problem(), Some(&expected), "{error}");
    // Two messages over one path, and a hop of the one in the other.
    let mut trail = path.trail.clone();
    trail[2] = path.leaves[2]
        .signer()
        .sign(other, &trail[..2], path.own_hop(2))
        .unwrap();
    path.assert_problem(&trail, 2, "replayed");
}

#[test]
fn identity_of_another_pod_is_named() {
    let path = Path::new();
    let trail = path.with(2, &path.leaves[0], path.own_hop(2));
    let problem = path.assert_problem(&trail, 2, "wrong identity");
    assert!(matches!(problem, HopProblem::WrongIdentity { signer, .. } if signer == path.names[0]));
    // The cluster alone, and the namespace alone, are enough to be wrong.
    for wrong in [
        Hop {
            cluster: "cluster-a".into(),
            ..path.own_hop(2)
        },
        Hop {
            namespace: path.names[0].namespace(),
            ..path.own_hop(2)
        },
    ] {
        path.assert_problem(&path.with(2, &path.leaves[2], wrong), 2, "wrong identity");
    }
}

#[test]
fn identity_signs_only_while_valid() {
    let path = Path::new();
    let (authority, name) = (&path.authorities[0], &path.names[0]);
    let brief = mint::leaf_of(&[authority], &[name], (2027, 2028));
    let moment = |text| Hop {
        at: at(text),
        ..path.own_hop(0)
    };
    for text in ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00.999999Z"] {
        let trail = path.with(0, &brief, moment(text));
        assert!(
            verify_trail(path.id, &trail, &path.roots).is_ok(),
            "{text} is in its time"
        );
    }
    for text in [
        "2026-12-31T23:59:59.999999Z",
        "2028-01-01T00:00:01Z",
        "1960-01-01T00:00:00Z",
    ] {
        let trail = path.with(0, &brief, moment(text));
        let expected = "gateway.cluster-a.international-ferry.ferry.internal \
                        is valid from 2027-01-01T00:00:00.000000Z";
        path.assert_problem(&trail, 0, expected);
    }
    // A leaf that claims more time than its authority has.
    let short = mint::authority_of(&path.root, name, (2026, 2027));
    let long = mint::leaf_of(&[&short], &[name], (2026, 2036));
    path.assert_problem(
        &path.with(0, &long, moment("2030-01-01T00:00:00Z")),
        0,
        "authority 1 of gateway",
    );
    // Even while that lives: only an attacker makes one.
    let problem = path.assert_problem(
        &path.with(0, &long, moment("2026-06-01T00:00:00Z")),
        0,
        "outlives its authority: the identity of gateway",
    );
    assert_eq!(problem.word(), "outlives-authority");
    let same = mint::leaf_of(&[&short], &[name], (2026, 2027));
    let trail = path.with(0, &same, moment("2026-06-01T00:00:00Z"));
    assert!(verify_trail(path.id, &trail, &path.roots).is_ok());
}

#[test]
fn identity_of_another_root_is_refused() {
    let path = Path::new();
    let other = mint::root();
    let (authority, name) = (mint::authority(&other, &path.names[0]), &path.names[0]);
    let foreign = mint::leaf(&authority, name);
    path.assert_problem(
        &path.with(0, &foreign, path.own_hop(0)),
        0,
        "not of this root",
    );
    // The foreign leaf with our own authority beside it, and with no authority at all.
    let mixed = Leaf {
        chain: vec![foreign.chain[0].clone(), path.authorities[0].der().clone()],
        ..foreign
    };
    path.assert_problem(
        &path.with(0, &mixed, path.own_hop(0)),
        0,
        "not of this root",
    );
    let alone = Leaf {
        chain: vec![mixed.chain[0].clone()],
        ..mixed
    };
    path.assert_problem(
        &path.with(0, &alone, path.own_hop(0)),
        0,
        "not of this root",
    );
    // While a root is rotated both are trusted.
    let both = [path.roots[0].clone(), other.der().clone()];
    let trail = path.with(0, &mint::leaf(&authority, name), path.own_hop(0));
    assert!(verify_trail(path.id, &trail, &both).is_ok());
}

#[test]
fn stolen_authority_signs_only_for_its_pod() {
    let path = Path::new();
    let (gateway, sink) = (&path.authorities[0], &path.names[2]);
    let impostor = mint::leaf(gateway, sink);
    path.assert_problem(
        &path.with(2, &impostor, path.own_hop(2)),
        2,
        "name not permitted",
    );

    let second = mint::authority_titled("second", gateway, &path.names[0], mint::YEARS);
    let below = mint::leaf_of(&[&second, gateway], &[&path.names[0]], mint::YEARS);
    path.assert_problem(&path.with(0, &below, path.own_hop(0)), 0, "PathLen");

    let both = mint::leaf_of(&[gateway], &[&path.names[0], sink], mint::YEARS);
    path.assert_problem(&path.with(0, &both, path.own_hop(0)), 0, "2 DNS names");

    let as_leaf = Leaf {
        chain: vec![gateway.der().clone()],
        chain_pem: String::new(),
        key_pem: gateway.key().serialize_pem(),
    };
    path.assert_problem(&path.with(0, &as_leaf, path.own_hop(0)), 0, "names no pod");
}

#[test]
fn clocks_of_hops_are_not_compared() {
    let path = Path::new();
    let first = path.trail[0].at;
    for by in ["-45s", "-20ms", "0s", "20ms", "45s", "2m"] {
        let by: jiff::SignedDuration = by.parse().unwrap();
        let hop = Hop {
            at: (first.as_jiff() + by).into(),
            ..path.own_hop(1)
        };
        let trail = path.with(1, &path.leaves[1], hop);
        let verdict = verify_trail(path.id, &trail, &path.roots);
        assert_eq!(verdict.as_ref(), Ok(&path.names[..2].to_vec()), "{by}");
    }
}

#[test]
fn one_verifier_checks_ten_thousand_messages() {
    let path = Path::new();
    let signers: [Signer; 2] = [path.leaves[0].signer(), path.leaves[1].signer()];
    let mut verifier = TrailVerifier::new(&path.roots).unwrap();
    for _ in 0..10_000 {
        let id = Uuid::now_v7();
        let first = signers[0].sign(id, &[], path.own_hop(0)).unwrap();
        let second = signers[1]
            .sign(id, std::slice::from_ref(&first), path.own_hop(1))
            .unwrap();
        assert_eq!(
            verifier.verify(id, &[first, second]).unwrap(),
            path.names[..2]
        );
    }
}
