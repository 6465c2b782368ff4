//! What the service of a cluster begins with: how much it may hold, and what history it forgets by itself.
//!
//! All replicas and gateways start from these settings and nothing else, so they stand in the cluster file and cannot
//! change while there is data.

use std::fmt;
use testudo_kv::{AutoCompaction, Settings};

/// Bytes of a kibibyte, mebibyte and gibibyte.
const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// The least quota. Less would refuse what a single request may bring.
const QUOTA_LEAST: u64 = 16 << 20;
/// The most; etcd advises the same.
const QUOTA_MOST: u64 = 8 << 30;
/// The most that is chosen where nobody asks for more.
const QUOTA_CHOSEN: u64 = Settings::QUOTA;

/// What a process needs beside its state: code, buffers, requests that are under way.
const BASE: u64 = 256 << 20;
/// How often a process may hold its state, at worst: as it is, as it was at the checkpoint that is being written or
/// handed out, and as much again for what an allocator cannot give back.
const COPIES: u64 = 3;
/// Milliseconds of the units that a period may have.
const TIMES: [(char, u64); 4] = [('s', 1_000), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000)];
/// The longest period: a hundred years.
const PERIOD_MOST: u64 = 100 * 365 * 86_400_000;

/// The quota for machines with so many bytes of memory, on each of which so many processes hold the state: three
/// quarters of the memory, shared among them, less what each needs anyhow, must hold the state three times.
pub(crate) fn quota_for(memory: u64, processes: u64) -> u64 {
    let each = (memory / 4 * 3) / processes.max(1);
    (each.saturating_sub(BASE) / COPIES / (1 << 20) * (1 << 20)).clamp(QUOTA_LEAST, QUOTA_CHOSEN)
}

/// The quota for this machine, or a modest one where it does not say how much memory it has.
pub(crate) fn quota_here(processes: u64) -> u64 {
    quota_for(memory().unwrap_or(4 << 30), processes)
}

/// The memory that a process may use here: the machine's, or less if a control group says so.
fn memory() -> Option<u64> {
    let text = |path: &str| std::fs::read_to_string(path).ok();
    let total = text("/proc/meminfo").and_then(|text| total_of(&text))?;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = limits.iter().filter_map(|path| text(path)?.trim().parse::<u64>().ok());
    Some(limits.fold(total, u64::min))
}

/// The line that says `MemTotal:  1234 kB`.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Reads a number of bytes: `512MiB`, `2GiB`, `1000000000`. The error is the rest of a sentence about the text.
pub(crate) fn read_quota(text: &str) -> Result<u64, String> {
    let (number, scale) = UNITS
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))
        .unwrap_or((text, 1));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err("is no number of bytes; write 512MiB, 2GiB or the like".into());
    }
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    match bytes {
        Some(bytes @ QUOTA_LEAST..=QUOTA_MOST) => Ok(bytes),
        _ => {
            let (least, most) = (Bytes(QUOTA_LEAST), Bytes(QUOTA_MOST));
            Err(format!("is out of bounds; a quota is from {least} to {most}"))
        }
    }
}

/// Reads what is forgotten by itself: `off`, `revisions=10000`, `period=1h`. The error is the rest of a sentence about
/// the text.
pub(crate) fn read_compaction(text: &str) -> Result<AutoCompaction, String> {
    let advice = "is no such choice; write off, revisions=10000 or period=1h";
    match text.split_once('=') {
        None if text == "off" => Ok(AutoCompaction::Off),
        Some(("revisions", number)) => match number.parse::<i64>() {
            Ok(number @ 1..) => Ok(AutoCompaction::Revisions(number.unsigned_abs())),
            _ => Err("keeps no number of revisions; write revisions=10000 or the like".into()),
        },
        Some(("period", period)) => match read_period(period) {
            Some(milliseconds @ 1..=PERIOD_MOST) => Ok(AutoCompaction::Period { milliseconds }),
            _ => Err("keeps no period; write period=30m, period=1h, period=7d or the like".into()),
        },
        _ => Err(advice.into()),
    }
}

fn read_period(text: &str) -> Option<u64> {
    let (number, scale) =
        TIMES.iter().find_map(|(unit, scale)| Some((text.strip_suffix(*unit)?, *scale)))?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse::<u64>().ok()?.checked_mul(scale)).flatten()
}

/// A number of bytes as [`read_quota`] reads it.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().rev().find(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale)) {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A choice as [`read_compaction`] reads it.
pub(crate) struct Compaction(pub(crate) AutoCompaction);

impl fmt::Display for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            AutoCompaction::Off => f.write_str("off"),
            AutoCompaction::Revisions(count) => write!(f, "revisions={count}"),
            AutoCompaction::Period { milliseconds } => {
                let unit =
                    TIMES.iter().rev().find(|(_, scale)| milliseconds.is_multiple_of(*scale));
                // What was read has whole seconds.
                let (unit, scale) = unit.copied().unwrap_or(('s', 1_000));
                write!(f, "period={}{unit}", milliseconds / scale)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_as_they_are_written() {
        for (text, bytes) in [
            ("16MiB", 16 << 20),
            ("2GiB", 2 << 30),
            ("524288KiB", 512 << 20),
            ("1000000000", 1_000_000_000),
        ] {
            assert_eq!(read_quota(text), Ok(bytes));
            assert_eq!(read_quota(&Bytes(bytes).to_string()), Ok(bytes));
        }
        assert_eq!(Bytes(512 << 20).to_string(), "512MiB");
        for (text, what) in [
            ("", "no number"),
            ("GiB", "no number"),
            ("2 GiB", "no number"),
            ("2GB", "no number"),
            ("-2GiB", "no number"),
            ("1.5GiB", "no number"),
            ("0", "from 16MiB to 8GiB"),
            ("1MiB", "from 16MiB to 8GiB"),
            ("9GiB", "from 16MiB to 8GiB"),
            ("99999999999999999999GiB", "from 16MiB to 8GiB"),
        ] {
            assert!(read_quota(text).unwrap_err().contains(what), "{text}");
        }
    }

    #[test]
    fn choices_of_what_is_forgotten_are_read_as_they_are_written() {
        for text in
            ["off", "revisions=1", "revisions=10000", "period=90s", "period=1h", "period=7d"]
        {
            assert_eq!(Compaction(read_compaction(text).unwrap()).to_string(), text);
        }
        let hour = AutoCompaction::Period { milliseconds: 3_600_000 };
        assert_eq!(read_compaction("period=60m"), Ok(hour));
        for (text, what) in [
            ("", "off, revisions"),
            ("on", "off, revisions"),
            ("off=1", "off, revisions"),
            ("revision=1", "off, revisions"),
            ("revisions=0", "no number of revisions"),
            ("revisions=-1", "no number of revisions"),
            ("revisions=99999999999999999999", "no number of revisions"),
            ("period=1", "no period"),
            ("period=0h", "no period"),
            ("period=h", "no period"),
            ("period=-1h", "no period"),
            ("period=99999999d", "no period"),
        ] {
            assert!(read_compaction(text).unwrap_err().contains(what), "{text}");
        }
    }

    #[test]
    fn all_processes_fit_into_the_memory_at_their_worst() {
        for gibibytes in [4, 8, 16, 64, 1024] {
            for processes in [2, 5, 8] {
                let memory: u64 = gibibytes << 30;
                let quota = quota_for(memory, processes);
                assert!(quota <= QUOTA_CHOSEN);
                let fits = processes * (COPIES * quota + BASE) <= memory;
                assert!(fits || quota == QUOTA_LEAST, "{gibibytes} GiB, {processes}: {quota}");
            }
        }
        assert_eq!(quota_for(1024 << 30, 5), QUOTA_CHOSEN);
        assert_eq!(quota_for(0, 0), QUOTA_LEAST);
        assert!((QUOTA_LEAST..=QUOTA_CHOSEN).contains(&quota_here(5)));
        assert_eq!(total_of("MemTotal:       16000 kB\nMemFree: 1 kB\n"), Some(16_384_000));
        assert_eq!(total_of(""), None);
    }
}
