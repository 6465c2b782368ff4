//! Evidence is kept as files, for whoever has to act on it.

use crate::metrics::Metrics;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use testudo_core::{Decode, DecodeError, Digest, Encode, Evidence, Reader, ReplicaId, limits};

/// The folder within a data folder that evidence is kept in. Its files end in `.evidence`.
pub const EVIDENCE_FOLDER: &str = "evidence";

/// A set of evidence as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEvidence {
    /// The evidence.
    pub evidence: Evidence,
    /// What shows who the members of its epoch were to whoever knows those of the first ([`Probe::lineage`](crate::Probe)).
    /// Empty for evidence of the first.
    pub lineage: Vec<u8>,
}

/// Keeps sets of evidence, as many of each accused and offence as the limits say.
pub(crate) struct Keeper {
    folder: PathBuf,
    kept: BTreeMap<(ReplicaId, String), usize>,
    metrics: Arc<Metrics>,
}

impl Keeper {
    /// Takes up what is in the folder already.
    pub(crate) fn open(data: &Path, metrics: Arc<Metrics>) -> io::Result<Self> {
        let folder = data.join(EVIDENCE_FOLDER);
        fs::create_dir_all(&folder)?;
        let mut kept = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            match read_evidence(&path) {
                Ok(KeptEvidence { evidence, .. }) => {
                    *kept.entry((evidence.accused, evidence.offence)).or_insert(0) += 1;
                }
                Err(error) => tracing::warn!(path = %path.display(), "no evidence: {error}"),
            }
        }
        Ok(Self { folder, kept, metrics })
    }

    /// Keeps and shows a set of evidence. Writing it happens elsewhere: the automaton does not wait for it.
    pub(crate) fn keep(&mut self, evidence: Evidence, lineage: Vec<u8>) {
        let kept = self.kept.entry((evidence.accused, evidence.offence.clone())).or_insert(0);
        if *kept >= limits::EVIDENCE_PER_OFFENCE {
            return;
        }
        *kept += 1;
        self.metrics.evidence.inc();
        tracing::error!(
            accused = %evidence.accused,
            offence = evidence.offence,
            "a replica is convicted by what it signed"
        );
        let bytes = encode(&KeptEvidence { evidence, lineage });
        let path = self.folder.join(format!("{}.evidence", Digest::of(&bytes)));
        let written = std::thread::Builder::new().name("evidence".to_owned()).spawn(move || {
            if let Err(error) = write(&path, &bytes) {
                tracing::error!(file = %path.display(), "evidence could not be written: {error}");
            }
        });
        if let Err(error) = written {
            tracing::error!("evidence could not be written: {error}");
        }
    }
}

/// The lineage stands after the evidence, and only where there is one: a file of the first epoch is what it always was.
fn encode(KeptEvidence { evidence, lineage }: &KeptEvidence) -> Vec<u8> {
    let mut bytes = vec![limits::FORMAT_VERSION];
    evidence.encode(&mut bytes);
    if !lineage.is_empty() {
        lineage.encode(&mut bytes);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<KeptEvidence, DecodeError> {
    let mut reader = Reader::new(bytes);
    let evidence = Evidence::decode(&mut reader)?;
    let lineage = match reader.remaining() {
        0 => Vec::new(),
        _ => Vec::decode(&mut reader)?,
    };
    reader.finish()?;
    Ok(KeptEvidence { evidence, lineage })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Reads a file of evidence. What it says is to be judged by the protocol's `convicts`.
///
/// # Errors
/// When it cannot be read, or is no evidence of this version.
pub fn read_evidence(path: &Path) -> io::Result<KeptEvidence> {
    parse_evidence(&fs::read(path)?)
}

/// Reads what a file of evidence holds.
///
/// # Errors
/// When it is no evidence of this version.
pub fn parse_evidence(bytes: &[u8]) -> io::Result<KeptEvidence> {
    match bytes.split_first() {
        Some((&limits::FORMAT_VERSION, kept)) => {
            decode(kept).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not evidence of this version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};
    use testudo_core::ProtocolId;

    fn evidence(accused: u16, statement: u8) -> Evidence {
        Evidence {
            accused: ReplicaId(accused),
            protocol: ProtocolId(9),
            offence: "equivocation".to_owned(),
            statements: vec![vec![statement; 3]],
        }
    }

    fn files(folder: &Path) -> usize {
        let is_whole = |entry: &io::Result<fs::DirEntry>| {
            entry.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "evidence")
        };
        fs::read_dir(folder.join(EVIDENCE_FOLDER)).unwrap().filter(is_whole).count()
    }

    #[test]
    fn one_set_for_each_accused_and_offence_is_kept_and_readable() {
        let data = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let mut keeper = Keeper::open(data.path(), metrics.clone()).unwrap();
        for statement in 0..3 {
            keeper.keep(evidence(2, statement), Vec::new());
        }
        keeper.keep(evidence(3, 0), b"epochs".to_vec());
        assert_eq!(metrics.evidence.get(), 2);
        let deadline = Instant::now() + Duration::from_secs(20);
        while files(data.path()) < 2 {
            assert!(Instant::now() < deadline, "evidence was not written");
            std::thread::yield_now();
        }
        let mut keeper = Keeper::open(data.path(), metrics.clone()).unwrap();
        keeper.keep(evidence(2, 7), Vec::new());
        assert_eq!(metrics.evidence.get(), 2, "what is kept is remembered over a restart");
        let entries = fs::read_dir(data.path().join(EVIDENCE_FOLDER)).unwrap();
        let read = |entry: io::Result<fs::DirEntry>| read_evidence(&entry.unwrap().path()).unwrap();
        let mut kept: Vec<KeptEvidence> = entries.map(read).collect();
        kept.sort_by_key(|kept| kept.evidence.accused);
        assert_eq!(kept[0], KeptEvidence { evidence: evidence(2, 0), lineage: Vec::new() });
        assert_eq!(kept[1], KeptEvidence { evidence: evidence(3, 0), lineage: b"epochs".to_vec() });
    }

    #[test]
    fn a_file_of_the_first_epoch_is_what_it_always_was() {
        let plain = KeptEvidence { evidence: evidence(2, 1), lineage: Vec::new() };
        let bytes = encode(&plain);
        assert_eq!(bytes[1..], plain.evidence.to_bytes());
        assert_eq!(decode(&bytes[1..]), Ok(plain.clone()));
        let later = encode(&KeptEvidence { lineage: vec![7; 3], ..plain });
        for end in 2..later.len() {
            let is_whole = end == bytes.len();
            assert_eq!(decode(&later[1..end]).is_ok(), is_whole, "{end}");
        }
    }
}
