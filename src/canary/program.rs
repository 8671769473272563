//! The canary's program: a static executable of some 250 bytes that only waits, and the archive of
//! the image that holds it.
//!
//! It needs no file, no memory beyond its own page and no right. A pause does not end it, SIGTERM
//! and its own timer do, and its exit code says which: see [`EXIT_TERMINATED`] and [`EXIT_BY_ITSELF`].

use std::time::Duration;

/// Where the program is in its image.
pub(super) const PATH: &str = "/canary";
/// Its exit code after SIGTERM: that signal's number.
pub(super) const EXIT_TERMINATED: i64 = 15;
/// Its exit code when its time is over: the number of SIGALRM.
#[cfg(test)]
const EXIT_BY_ITSELF: i32 = 14;

/// What differs from one architecture to the other.
struct Architecture {
    /// The engine's name of it, its system before it.
    platform: &'static str,
    /// ELF's number of it.
    machine: u16,
    /// The program; the signals to wait for and the timer follow it.
    code: &'static [u8],
}

const ARCHITECTURES: [Architecture; 2] = [
    Architecture {
        platform: "linux/amd64",
        machine: 62,
        code: &[
            // rt_sigprocmask(SIG_BLOCK, signals, none, 8): a signal that is blocked is kept, even
            // for a container's first process, whom the kernel spares others.
            0x31, 0xff, // xor edi, edi
            0x48, 0x8d, 0x35, 0x47, 0, 0, 0, // lea rsi, [rip + signals]
            0x31, 0xd2, // xor edx, edx
            0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8
            0xb8, 14, 0, 0, 0, // mov eax, 14
            0x0f, 0x05, // syscall
            // setitimer(ITIMER_REAL, timer, none)
            0x31, 0xff, // xor edi, edi
            0x48, 0x8d, 0x35, 0x37, 0, 0, 0, // lea rsi, [rip + timer]
            0x31, 0xd2, // xor edx, edx
            0xb8, 38, 0, 0, 0, // mov eax, 38
            0x0f, 0x05, // syscall
            // wait: rt_sigtimedwait(signals, none, none, 8), again after EINTR: a pause interrupts
            0x48, 0x8d, 0x3d, 0x1f, 0, 0, 0, // lea rdi, [rip + signals]
            0x31, 0xf6, // xor esi, esi
            0x31, 0xd2, // xor edx, edx
            0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8
            0xb8, 128, 0, 0, 0, // mov eax, 128
            0x0f, 0x05, // syscall
            0x83, 0xf8, 0xfc, // cmp eax, -4
            0x74, 0xe3, // je wait
            // exit_group(the signal)
            0x89, 0xc7, // mov edi, eax
            0xb8, 231, 0, 0, 0, // mov eax, 231
            0x0f, 0x05, // syscall
        ],
    },
    Architecture {
        platform: "linux/arm64",
        machine: 183,
        code: &[
            // rt_sigprocmask(SIG_BLOCK, signals, none, 8)
            0x00, 0x00, 0x80, 0xd2, // mov x0, #0
            0xa1, 0x02, 0x00, 0x10, // adr x1, signals
            0x02, 0x00, 0x80, 0xd2, // mov x2, #0
            0x03, 0x01, 0x80, 0xd2, // mov x3, #8
            0xe8, 0x10, 0x80, 0xd2, // mov x8, #135
            0x01, 0x00, 0x00, 0xd4, // svc #0
            // setitimer(ITIMER_REAL, timer, none)
            0x00, 0x00, 0x80, 0xd2, // mov x0, #0
            0x21, 0x02, 0x00, 0x10, // adr x1, timer
            0x02, 0x00, 0x80, 0xd2, // mov x2, #0
            0xe8, 0x0c, 0x80, 0xd2, // mov x8, #103
            0x01, 0x00, 0x00, 0xd4, // svc #0
            // wait: rt_sigtimedwait(signals, none, none, 8), again after EINTR
            0x60, 0x01, 0x00, 0x10, // adr x0, signals
            0x01, 0x00, 0x80, 0xd2, // mov x1, #0
            0x02, 0x00, 0x80, 0xd2, // mov x2, #0
            0x03, 0x01, 0x80, 0xd2, // mov x3, #8
            0x28, 0x11, 0x80, 0xd2, // mov x8, #137
            0x01, 0x00, 0x00, 0xd4, // svc #0
            0x1f, 0x10, 0x00, 0xb1, // cmn x0, #4
            0x20, 0xff, 0xff, 0x54, // b.eq wait
            // exit_group(the signal)
            0xc8, 0x0b, 0x80, 0xd2, // mov x8, #94
            0x01, 0x00, 0x00, 0xd4, // svc #0
            0x1f, 0x20, 0x03, 0xd5, // nop: what follows is aligned to 8 bytes
        ],
    },
];

/// SIGALRM (14) and SIGTERM (15) as a set: the bits count from 1.
const SIGNALS: u64 = 1 << 13 | 1 << 14;
/// The sizes of ELF's header and of the header of a segment.
const HEADERS: [u16; 2] = [64, 56];
/// Where the file is in memory.
const BASE: u64 = 0x40_0000;

/// The program for an engine's platform, such as `linux/amd64`, which ends by itself after `life`.
/// `None` where there is none for it.
pub(super) fn executable(platform: &str, life: Duration) -> Option<Vec<u8>> {
    let architecture = ARCHITECTURES.iter().find(|one| one.platform == platform)?;
    let begin = u64::from(HEADERS[0]) + u64::from(HEADERS[1]);
    // The signals, and a timer of an interval and a first time, in seconds and microseconds.
    let data = [SIGNALS, 0, 0, life.as_secs(), 0]
        .map(u64::to_le_bytes)
        .concat();
    let size = begin + (architecture.code.len() + data.len()) as u64;

    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little-endian
    file.extend([2, architecture.machine].map(u16::to_le_bytes).concat()); // an executable
    file.extend(1u32.to_le_bytes());
    file.extend([BASE + begin, 64, 0].map(u64::to_le_bytes).concat()); // entry, segments, sections
    file.extend(0u32.to_le_bytes());
    file.extend(
        [HEADERS[0], HEADERS[1], 1, 64, 0, 0]
            .map(u16::to_le_bytes)
            .concat(),
    );
    // One segment to load: the whole file, to be read and executed.
    file.extend([1u32, 4 | 1].map(u32::to_le_bytes).concat());
    file.extend(
        [0, BASE, BASE, size, size, 0x1_0000]
            .map(u64::to_le_bytes)
            .concat(),
    );
    file.extend(architecture.code);
    file.extend(data);
    Some(file)
}

/// The archive of a root file system with this program in it.
///
/// # Errors
/// None that memory gives; what writes archives knows only of files.
pub(super) fn archive(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, PATH.trim_start_matches('/'), program)?;
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::{Child, Command};

    fn start(directory: &std::path::Path, life: Duration) -> Child {
        let platform = match std::env::consts::ARCH {
            "x86_64" => "linux/amd64",
            "aarch64" => "linux/arm64",
            other => panic!("no program for {other}"),
        };
        let path = directory.join("canary");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .mode(0o755)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.write_all(&executable(platform, life).unwrap())
            .unwrap();
        drop(file);
        // Another test that forks may hold the file open for writing for a moment.
        loop {
            match Command::new(&path).spawn() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now();
                }
                child => return child.unwrap(),
            }
        }
    }

    #[test]
    fn it_ends_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = start(directory.path(), Duration::from_secs(1));
        assert_eq!(child.wait().unwrap().code(), Some(EXIT_BY_ITSELF));
    }

    #[test]
    fn a_pause_does_not_end_it_and_sigterm_does() {
        use rustix::process::{Pid, Signal, kill_process};
        let directory = tempfile::tempdir().unwrap();
        let mut child = start(directory.path(), Duration::from_secs(600));
        let pid = Pid::from_child(&child);
        let state = || {
            let path = format!("/proc/{}/stat", child.id());
            let stat = std::fs::read_to_string(path).unwrap();
            stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
        };
        let until = |wanted: char| {
            while state() != wanted {
                assert_ne!(state(), 'Z', "it ended");
                std::thread::yield_now();
            }
        };
        until('S');
        for _ in 0..3 {
            kill_process(pid, Signal::STOP).unwrap();
            until('T');
            kill_process(pid, Signal::CONT).unwrap();
            until('S');
        }
        kill_process(pid, Signal::TERM).unwrap();
        let code = child.wait().unwrap().code();
        assert_eq!(code.map(i64::from), Some(EXIT_TERMINATED));
    }

    #[test]
    fn it_is_small_and_only_for_what_it_was_written_for() {
        for platform in ["linux/amd64", "linux/arm64"] {
            let program = executable(platform, Duration::from_secs(7)).unwrap();
            assert!(program.len() < 256, "{}", program.len());
            assert_eq!(program.len() % 8, 0, "what is waited for is aligned");
            assert_eq!(program[program.len() - 16..][..8], 7u64.to_le_bytes());
            assert_eq!(archive(&program).unwrap().len(), 2048);
        }
        for platform in ["windows/amd64", "linux/riscv64", ""] {
            assert!(executable(platform, Duration::from_secs(7)).is_none());
        }
    }
}
