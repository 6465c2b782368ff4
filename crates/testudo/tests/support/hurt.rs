//! What befalls disks: a flipped bit, no space, and flushes that take their time.

use super::{path, signal};
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Flips one bit in the middle of what was written to a file, and says of which byte.
pub(crate) fn flip_in_the_middle(file: &Path) -> usize {
    flip(file, |written| written / 2)
}

/// Flips one bit so many bytes before the end of what was written to a file, and says of which byte.
pub(crate) fn flip_before_the_end(file: &Path, bytes: usize) -> usize {
    flip(file, |written| written - bytes)
}

/// How many bytes of a file were written: the rest is zeros that were there before.
pub(crate) fn written(file: &Path) -> usize {
    let bytes = std::fs::read(file).expect("the file is read");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Flips a bit of the next byte that is not zero.
fn flip(file: &Path, place: impl Fn(usize) -> usize) -> usize {
    let end = written(file);
    let bytes = std::fs::read(file).expect("the file is read");
    let place = (place(end)..end).find(|place| bytes[*place] != 0).expect("there is one");
    // One byte in place, as its owner may be writing others.
    let file = File::options().write(true).open(file).expect("the file can be written");
    file.write_all_at(&[bytes[place] ^ 0x10], place as u64).expect("a byte is written");
    place
}

/// A small disk in memory that no other process sees but by its path.
pub(crate) struct SmallDisk {
    holder: Child,
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl SmallDisk {
    /// Makes one of so many bytes, in a name space of its own. `Err` says why that is not possible here.
    pub(crate) fn make(folder: &Path, bytes: u64) -> Result<Self, String> {
        let place = folder.join("small-disk");
        std::fs::create_dir(&place).map_err(|error| error.to_string())?;
        let script = format!(
            "mount -t tmpfs -o size={bytes} testudo {} && echo made && exec cat",
            path(&place)
        );
        // It lives for as long as its standard input is held open.
        // Where it is, whatever is on the PATH.
        let mut holder = Command::new("/usr/bin/unshare")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut line = String::new();
        if let Some(output) = holder.stdout.take() {
            let _ = std::io::BufReader::new(output).read_line(&mut line);
        }
        let inside = PathBuf::from(format!("/proc/{}/root{}", holder.id(), path(&place)));
        let disk = Self { holder, path: inside };
        match line.as_str() {
            "made\n" if disk.path.is_dir() => Ok(disk),
            _ => Err("there are no name spaces with file systems of one's own".into()),
        }
    }

    /// Takes all the space that is left, and gives the file that has it.
    pub(crate) fn fill(&self) -> PathBuf {
        let ballast = self.path.join("ballast");
        let mut file = File::create(&ballast).expect("the ballast begins");
        let chunk = vec![b'b'; 64 << 10];
        // The last bytes go one by one, as it were: a full disk has no room for any page.
        for size in [chunk.len(), 4096, 1] {
            while file.write_all(&chunk[..size]).is_ok() {}
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A library that makes every flush of a process take its time, or fail, for as long as a file is there.
pub(crate) struct BadDisk {
    /// What is to be loaded before the system's own.
    pub(crate) library: PathBuf,
    slow: PathBuf,
    broken: PathBuf,
}

const FLUSHES: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>

static int flush(const char *name, int file) {
    struct timespec time = { 0, DELAY_MS * 1000000L };
    if (access(SLOW, F_OK) == 0) nanosleep(&time, 0);
    if (access(BROKEN, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int)) dlsym(RTLD_NEXT, name))(file);
}
int fsync(int file) {
    return flush("fsync", file);
}
int fdatasync(int file) {
    return flush("fdatasync", file);
}
"#;

impl BadDisk {
    /// Compiles it: whoever builds Testudo has a C compiler.
    pub(crate) fn make(folder: &Path, milliseconds: u32) -> Self {
        let [source, library, slow, broken] =
            ["flushes.c", "flushes.so", "slow", "broken"].map(|name| folder.join(name));
        std::fs::write(&source, FLUSHES).expect("its source is written");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(&source)
            .arg(format!("-DDELAY_MS={milliseconds}"))
            .arg(format!("-DSLOW=\"{}\"", path(&slow)))
            .arg(format!("-DBROKEN=\"{}\"", path(&broken)))
            .status();
        assert!(compiled.expect("there is a C compiler").success(), "the library is compiled");
        Self { library, slow, broken }
    }

    /// From now on flushes take long.
    pub(crate) fn slow_down(&self) {
        std::fs::write(&self.slow, "").expect("the switch is written");
    }

    /// From now on flushes fail.
    pub(crate) fn break_down(&self) {
        std::fs::write(&self.broken, "").expect("the switch is written");
    }

    /// From now on they are as they were.
    pub(crate) fn mend(&self) {
        for switch in [&self.slow, &self.broken].into_iter().filter(|switch| switch.exists()) {
            std::fs::remove_file(switch).expect("the switch is removed");
        }
    }
}

/// Flips a bit of these bytes wherever a process has them in its memory, and says in how many places. It stands still
/// meanwhile.
pub(crate) fn flip_in_memory(pid: u32, bytes: &[u8]) -> usize {
    signal(pid, "STOP");
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps are shown");
    let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"));
    let memory = memory.expect("its memory can be written");
    let mut places = 0;
    let mut chunk = vec![0; CHUNK];
    for (start, end) in maps.lines().filter_map(writable) {
        // Chunks overlap, so that nothing is overlooked that lies across two.
        for from in (start..end).step_by(CHUNK - bytes.len()) {
            let chunk = &mut chunk[..CHUNK.min(end - from)];
            // What the system keeps to itself cannot be read, and is not the process's own.
            if memory.read_exact_at(chunk, from as u64).is_err() {
                continue;
            }
            for place in find(chunk, bytes) {
                let flipped = [bytes[0] ^ 0x10];
                memory.write_all_at(&flipped, (from + place) as u64).expect("a byte is written");
                places += 1;
            }
        }
    }
    signal(pid, "CONT");
    places
}

/// Bytes of memory that are looked at a time.
const CHUNK: usize = 4 << 20;

/// Where these bytes are. Their first should be rare.
fn find(within: &[u8], bytes: &[u8]) -> Vec<usize> {
    let (mut rest, mut places) = (within, Vec::new());
    // The library's search for one byte is fast in debug builds, too.
    while rest.skip_until(bytes[0]).expect("memory is read") > 0 {
        let place = within.len() - rest.len() - 1;
        if within[place..].starts_with(bytes) {
            places.push(place);
        }
    }
    places
}

/// Where a private region of memory is that may be written, from a line of the system's maps.
fn writable(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let (start, end) = range.split_once('-')?;
    let address = |digits| usize::from_str_radix(digits, 16).ok();
    let region = (address(start)?, address(end)?);
    (rights == "rw-p").then_some(region)
}
