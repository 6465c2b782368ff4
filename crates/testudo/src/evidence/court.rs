//! The judgement of a set of evidence with public keys alone, and what its statements say.
//!
//! A cluster file names the members of the first epoch. Evidence of a later one bears what led to it: how each epoch before
//! ended, signed by a quorum of those who ordered till then. So who ordered in that epoch, under which keys, is proved by the
//! cluster file as well ([`Court::among`]).

use super::offences;
use crate::cluster::Cluster;
use crate::failure::Outcome;
use crate::protocols::{self, Runnable, Visit};
use crate::words;
use testudo_core::{
    Context, Decode as _, Digest, Domain, Evidence, Membership, Message as _, Peer, Signed,
};
use testudo_keys::Ed25519Verifier;
use testudo_replication::Succession;
use testudo_runtime::KeptEvidence;

/// Letters of what a statement says that are shown. A view change says a great deal.
const LETTERS: usize = 200;

/// Bytes of a statement's body that are shown. A vote has 48, whose last tell it from another.
const BODY: usize = 256;

/// Statements that are shown. Two convict; more are never looked at.
const SHOWN: usize = 4;

/// Whoever has a cluster file can judge.
pub(crate) struct Court {
    protocol: String,
    domain: Domain,
    membership: Membership,
    verifier: Ed25519Verifier,
}

/// What a set of evidence comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    /// Who is accused.
    pub(crate) accused: u16,
    /// The epoch that the statements must be of.
    pub(crate) epoch: u64,
    /// Of what, in a word, without anything that plays tricks on a terminal.
    pub(crate) offence: String,
    /// Why it does not convict. `None` if it does.
    pub(crate) acquittal: Option<String>,
    /// What the first of its statements say.
    pub(crate) statements: Vec<Statement>,
}

impl Finding {
    /// Why no correct replica makes such statements; or why these prove nothing.
    pub(crate) fn why(&self) -> String {
        self.acquittal.clone().unwrap_or_else(|| offences::why(&self.offence).to_owned())
    }
}

/// A statement of the accused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Statement {
    /// What kind of message it is; empty if it cannot be read.
    pub(crate) kind: String,
    /// What it says, cut where it is long.
    pub(crate) says: String,
    /// Its body in hexadecimal digits, whole if it is short: what two statements say may differ in a digest's last letter.
    pub(crate) body: Option<String>,
    /// How many bytes the signed frame has.
    pub(crate) bytes: usize,
    /// The digest of the signed frame.
    pub(crate) digest: String,
    /// Why it is not to be believed to be the accused's, if it is not.
    pub(crate) error: Option<String>,
}

impl Court {
    /// With that cluster's keys and rules.
    pub(crate) fn of(cluster: &Cluster) -> Outcome<Self> {
        let membership = cluster.membership()?;
        // Refused here once, so that no protocol's absence is taken for innocence.
        protocols::profile(&cluster.protocol)?;
        Ok(Self::sitting(&cluster.protocol, cluster.domain(), membership))
    }

    fn sitting(protocol: &str, domain: Domain, membership: Membership) -> Self {
        let verifier = Ed25519Verifier::new(membership.members.iter().map(|member| member.voting));
        Self { protocol: protocol.to_owned(), domain, membership, verifier }
    }

    /// The court of the epoch that this lineage leads to, epoch by epoch, each proved by the members before it.
    fn among(&self, lineage: &[u8]) -> Result<Self, String> {
        let successions = Vec::<Succession>::from_bytes(lineage)
            .map_err(|error| format!("what led to its epoch cannot be read ({error})"))?;
        let mut court = Self::sitting(&self.protocol, self.domain, self.membership.clone());
        for succession in successions {
            let next = succession.check(&court.context()).map_err(|error| {
                format!("how epoch {} ended is not proved: {error}", court.domain.epoch)
            })?;
            court =
                Self::sitting(&self.protocol, Domain { epoch: next.epoch, ..self.domain }, next);
        }
        Ok(court)
    }

    /// Whether the evidence convicts whom it accuses.
    pub(crate) fn convicts(&self, kept: &KeptEvidence) -> bool {
        let KeptEvidence { evidence, lineage } = kept;
        match lineage.as_slice() {
            [] => self.convicts_here(evidence),
            lineage => self.among(lineage).is_ok_and(|court| court.convicts_here(evidence)),
        }
    }

    fn convicts_here(&self, evidence: &Evidence) -> bool {
        protocols::is_convicted(&self.protocol, evidence, &self.context())
    }

    /// Judges, and says why.
    pub(crate) fn judge(&self, kept: &KeptEvidence) -> Finding {
        let KeptEvidence { evidence, lineage } = kept;
        if lineage.is_empty() {
            return self.judge_here(evidence);
        }
        match self.among(lineage) {
            Ok(court) => court.judge_here(evidence),
            Err(doubt) => Finding { acquittal: Some(doubt), ..self.judge_here(evidence) },
        }
    }

    fn judge_here(&self, evidence: &Evidence) -> Finding {
        let statements = self.statements(evidence);
        let acquittal = (!self.convicts_here(evidence)).then(|| self.doubt(evidence, &statements));
        let offence: String = evidence.offence.chars().filter(|it| !it.is_control()).collect();
        let offence = offence.chars().take(LETTERS).collect();
        let epoch = self.domain.epoch.0;
        Finding { accused: evidence.accused.0, epoch, offence, acquittal, statements }
    }

    fn context(&self) -> Context<'_> {
        Context { domain: self.domain, membership: &self.membership, verifier: &self.verifier }
    }

    /// Why it does not convict, in one clause.
    fn doubt(&self, evidence: &Evidence, statements: &[Statement]) -> String {
        let n = self.membership.n();
        if usize::from(evidence.accused.0) >= n {
            return format!("the cluster has {n} replicas and no replica {}", evidence.accused);
        }
        let broken = statements.iter().enumerate().find_map(|(place, it)| {
            let error = it.error.as_ref()?;
            Some(format!("statement {} cannot be held against it: {error}", place + 1))
        });
        broken.unwrap_or_else(|| match statements.len() {
            0 => "there is no statement in it".into(),
            1 => format!(
                "a correct replica may make this statement, or it is not {}",
                named(evidence)
            ),
            2 => format!(
                "a correct replica may make both statements, or they are not {}",
                named(evidence)
            ),
            _ => "it holds more statements than any rule is about".into(),
        })
    }

    fn statements(&self, evidence: &Evidence) -> Vec<Statement> {
        struct Read<'a>(&'a Court, &'a Evidence);
        impl Visit for Read<'_> {
            type Output = Vec<Statement>;
            fn visit<O: Runnable>(self) -> Vec<Statement> {
                let Read(court, evidence) = self;
                let accused = evidence.accused.into();
                let frames = evidence.statements.iter().take(SHOWN);
                frames.map(|frame| statement::<O>(frame, accused, &court.context())).collect()
            }
        }
        // The protocol's name was found to be known when the court was made.
        protocols::visit(&self.protocol, Read(self, evidence)).unwrap_or_default()
    }
}

fn named(evidence: &Evidence) -> String {
    let letters = evidence.offence.chars().filter(|it| !it.is_control()).take(LETTERS);
    format!("what `{}` means", letters.collect::<String>())
}

fn statement<O: Runnable>(frame: &[u8], accused: Peer, context: &Context<'_>) -> Statement {
    let mut statement = Statement {
        kind: String::new(),
        says: String::new(),
        body: None,
        bytes: frame.len(),
        digest: Digest::of(frame).to_string(),
        error: None,
    };
    let signed = match Signed::<O::Message>::from_bytes(frame) {
        Ok(signed) => signed,
        Err(error) => {
            statement.error = Some(format!("it cannot be read ({error})"));
            return statement;
        }
    };
    match signed.verify(accused, context) {
        Ok(verified) => {
            let says = format!("{:?}", verified.message());
            statement.kind = verified.message().name().to_owned();
            statement.says = says.chars().filter(|it| !it.is_control()).take(LETTERS).collect();
            let mut body = Vec::new();
            verified.message().encode_body(&mut body);
            statement.body = (body.len() <= BODY).then(|| words::hex(&body));
            if says.chars().count() > LETTERS {
                statement.says.push('…');
            }
            if verified.sender() != accused {
                statement.error = Some("another one signed it".into());
            } else if verified.signature().is_none() {
                statement.error = Some("it is of a kind that is not signed".into());
            }
        }
        Err(rejection) => statement.error = Some(rejection.to_string()),
    }
    statement
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cluster::{Address, Replica};
    use testudo_catalog::testudo_pbft::message::{Message, Prepare};
    use testudo_core::{ClusterId, Encode as _, ReplicaId, Slot, Verified, View};
    use testudo_keys::SigningKey;

    fn key(id: u16) -> SigningKey {
        SigningKey::from_secret(&[id as u8 + 1; 32])
    }

    /// A cluster of four whose keys are known here.
    pub(in crate::evidence) fn cluster() -> Cluster {
        let replica = |id: u16| Replica {
            id,
            address: Address::new("127.0.0.1", 7000 + id),
            admin: None,
            identity: testudo_core::PublicKey([id as u8; 32]),
            voting: key(id).public(),
            liar: None,
        };
        Cluster {
            id: ClusterId([1; 16]),
            protocol: crate::protocols::DEFAULT.into(),
            faults: 1,
            demonstration: false,
            beyond: false,
            service: testudo_kv::Settings::default(),
            replicas: (0..4).map(replica).collect(),
            gateways: Vec::new(),
        }
    }

    /// A vote of replica `who` for a batch with that name.
    pub(in crate::evidence) fn vote(cluster: &Cluster, who: u16, batch: &str) -> Vec<u8> {
        let digest = Digest::of(batch.as_bytes());
        let vote = Message::Prepare(Prepare { view: View(4), slot: Slot(3), digest });
        let sealed = Verified::seal(vote, ReplicaId(who).into(), cluster.domain(), &key(who));
        sealed.signed().to_bytes()
    }

    pub(in crate::evidence) fn evidence(accused: u16, statements: Vec<Vec<u8>>) -> KeptEvidence {
        let evidence = Evidence {
            accused: ReplicaId(accused),
            protocol: testudo_catalog::testudo_pbft::PBFT,
            offence: "equivocation".into(),
            statements,
        };
        KeptEvidence { evidence, lineage: Vec::new() }
    }

    fn renamed(mut kept: KeptEvidence, offence: &str) -> KeptEvidence {
        kept.evidence.offence = offence.into();
        kept
    }

    #[test]
    fn two_votes_convict_and_are_shown() {
        let cluster = cluster();
        let court = Court::of(&cluster).unwrap();
        let finding =
            court.judge(&evidence(2, vec![vote(&cluster, 2, "a"), vote(&cluster, 2, "b")]));
        assert_eq!(finding.acquittal, None);
        assert!(finding.why().contains("two different batches"), "{}", finding.why());
        assert_eq!(finding.statements.len(), 2);
        for statement in &finding.statements {
            assert_eq!((statement.kind.as_str(), &statement.error), ("prepare", &None));
            assert!(statement.says.contains("slot"), "{}", statement.says);
        }
        assert_ne!(finding.statements[0].body, finding.statements[1].body);
    }

    #[test]
    fn what_led_to_an_epoch_must_be_proved() {
        let cluster = cluster();
        let court = Court::of(&cluster).unwrap();
        let right = evidence(2, vec![vote(&cluster, 2, "a"), vote(&cluster, 2, "b")]);
        // As many successions as are said to follow, and none of them there.
        for (lineage, what) in [
            (&[1][..], "what led to its epoch cannot be read"),
            (&[3, 0, 0, 0, 9], "cannot be read"),
        ] {
            let kept = KeptEvidence { lineage: lineage.to_vec(), ..right.clone() };
            let finding = court.judge(&kept);
            assert!(finding.why().contains(what), "{}", finding.why());
            assert!(!court.convicts(&kept));
        }
        // A list of none leads nowhere: the statements are of the first epoch.
        let none = Vec::<Succession>::new().to_bytes();
        assert!(court.convicts(&KeptEvidence { lineage: none, ..right }));
    }

    #[test]
    fn what_does_not_convict_says_why() {
        let cluster = cluster();
        let court = Court::of(&cluster).unwrap();
        let own = |batch| vote(&cluster, 2, batch);
        let mut elsewhere = cluster.clone();
        elsewhere.id = ClusterId([9; 16]);
        let mut forged = own("b");
        *forged.last_mut().unwrap() ^= 1;
        for (set, what) in [
            (evidence(2, vec![own("a"), own("a")]), "a correct replica may make both"),
            (evidence(2, vec![own("a")]), "a correct replica may make this"),
            (evidence(2, vec![own("a"), vote(&cluster, 1, "b")]), "statement 2 cannot be held"),
            (evidence(2, vec![own("a"), vote(&elsewhere, 2, "b")]), "another cluster"),
            (evidence(2, vec![own("a"), forged]), "statement 2 cannot be held"),
            (evidence(2, vec![own("a"), vec![7; 9]]), "cannot be read"),
            (evidence(2, vec![]), "no statement"),
            (evidence(9, vec![own("a"), own("b")]), "no replica 9"),
            (evidence(2, vec![own("a"), own("b"), own("c")]), "more statements"),
            (
                renamed(evidence(2, vec![own("a"), own("b")]), "amnesia\u{1b}[2J"),
                "not what `amnesia[2J` means",
            ),
        ] {
            let finding = court.judge(&set);
            assert!(finding.acquittal.is_some(), "{what}: {set:?}");
            assert!(finding.why().contains(what), "{what}: {}", finding.why());
            assert!(!finding.offence.contains('\u{1b}'));
        }
    }
}
