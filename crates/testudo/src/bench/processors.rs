//! What processes have cost: the processor time that Linux books for each, and the most memory that each had.

use std::fs;
use std::time::Duration;

/// Ticks of processor time in a second, as `/proc` counts them on every Linux that there is.
const TICKS: u64 = 100;

/// Processes to watch, and this one.
#[derive(Debug)]
pub(super) struct Processes {
    /// Process numbers, with the names that they have.
    pub(super) watched: Vec<(u32, String)>,
}

/// Processor time spent so far.
#[derive(Clone, Debug)]
pub(super) struct Times {
    /// In the order of the processes.
    pub(super) watched: Vec<Duration>,
    /// By this process, if the system says.
    pub(super) own: Option<Duration>,
}

impl Processes {
    /// # Errors
    /// When one of them is not there, or the system does not say what they cost.
    pub(super) fn of(pids: &[u32]) -> Result<Self, String> {
        let named = |&pid: &u32| read(&pid.to_string()).map(|(name, _)| (pid, name));
        Ok(Self { watched: pids.iter().map(named).collect::<Result<_, _>>()? })
    }

    /// # Errors
    /// When one of them has ended.
    pub(super) fn times(&self) -> Result<Times, String> {
        let time = |(pid, _): &(u32, String)| read(&pid.to_string()).map(|(_, time)| time);
        let watched = self.watched.iter().map(time).collect::<Result<_, _>>()?;
        Ok(Times { watched, own: read("self").ok().map(|(_, time)| time) })
    }
}

/// The most memory that each of these processes ever had at once, in bytes (`VmHWM`); none where it cannot be told.
pub(super) fn peak_memory(processes: &Processes) -> Vec<Option<u64>> {
    let peak = |(pid, _): &(u32, String)| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        parse_peak(&text)
    };
    processes.watched.iter().map(peak).collect()
}

/// The line that says `VmHWM:     1234 kB`.
fn parse_peak(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn read(process: &str) -> Result<(String, Duration), String> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    parse(&text).ok_or_else(|| format!("{path} is not as Linux writes it"))
}

/// The name, which stands in parentheses and may hold any character, and the 14th and 15th field.
fn parse(text: &str) -> Option<(String, Duration)> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = user.checked_add(system)?;
    Some((name.to_owned(), Duration::from_millis(ticks.saturating_mul(1000 / TICKS))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let text = "7 (a) (b c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 8 1 1";
        assert_eq!(parse(text), Some(("a) (b c".to_owned(), Duration::from_secs(3))));
        assert_eq!(parse("7 (a) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "Name:\ta\nVmPeak:\t  9 kB\nVmHWM:\t   12 kB\nVmRSS:\t 8 kB\n";
        assert_eq!(parse_peak(text), Some(12 * 1024));
        assert_eq!(parse_peak("Name:\ta\n"), None);
        let own = Processes::of(&[std::process::id()]).expect("this process is there");
        assert!(peak_memory(&own)[0].expect("it has memory") > 1 << 20);
    }

    #[test]
    fn who_is_not_there_is_named() {
        let error = Processes::of(&[u32::MAX]).expect_err("no such process");
        assert!(error.contains("/proc/4294967295/stat"), "{error}");
    }
}
