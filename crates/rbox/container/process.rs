//! One process as proc(5) shows it.

use rbox_engine::host::read_proc;

/// The kernel's unit of CPU time for user space: `USER_HZ`, 100 a second on every architecture rbox runs on.
pub(crate) const TICKS: u64 = 100;

/// A process of the host. What ends while it is read is none.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// Its number on the host.
    pub(crate) pid: i32,
    /// Its number in each namespace, from the reader's down to its own.
    pub(crate) inside: Vec<i32>,
    /// Its parent's number on the host.
    pub(crate) parent: i32,
    /// Its effective user.
    pub(crate) uid: u32,
    /// Its effective group.
    pub(crate) gid: u32,
    /// How many threads it has.
    pub(crate) threads: u64,
    /// The name of its program, at most 15 characters.
    pub(crate) name: String,
    /// Its arguments; empty for kernel threads and zombies.
    pub(crate) arguments: String,
    /// `R`, `S`, `D`, `T`, `Z`, …
    pub(crate) state: char,
    /// Its process group.
    pub(crate) group: i32,
    /// Its session.
    pub(crate) session: i32,
    /// Device number of its terminal; 0 for none.
    pub(crate) terminal: u32,
    /// The foreground process group of its terminal.
    pub(crate) foreground: i32,
    /// CPU time, user and system, in [`TICKS`].
    pub(crate) cpu_ticks: u64,
    /// Its priority.
    pub(crate) priority: i64,
    /// Its nice value.
    pub(crate) nice: i64,
    /// Start, in [`TICKS`] since boot.
    pub(crate) start_ticks: u64,
    /// Virtual memory, bytes.
    pub(crate) virtual_bytes: u64,
    /// Resident memory, KiB.
    pub(crate) resident_kib: u64,
}

impl Process {
    /// Reads the process of this number.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        // A process can make its arguments as long as its memory.
        let file = |name: &str| read_proc(&format!("/proc/{pid}/{name}"));
        let status = String::from_utf8_lossy(&file("status")?).into_owned();
        let stat = String::from_utf8_lossy(&file("stat")?).into_owned();
        // Without arguments (it is ending) the name is still there.
        let arguments = file("cmdline").unwrap_or_default();
        Self::parse(pid, &status, &stat, &arguments)
    }

    fn parse(pid: i32, status: &str, stat: &str, arguments: &[u8]) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map_or("", str::trim)
        };
        let number =
            |name: &str, at: usize| -> Option<u64> { field(name).split_whitespace().nth(at)?.parse().ok() };
        // The name may hold spaces and parentheses; the last `)` ends it.
        let (head, tail) = stat.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        // Numbered as proc(5) does: field 3 is the first after the name.
        let at = |field: usize| fields.get(field - 3).copied().unwrap_or("0");
        let signed = |field: usize| at(field).parse::<i64>().unwrap_or(0);
        let unsigned = |field: usize| at(field).parse::<u64>().unwrap_or(0);
        let arguments: Vec<_> = arguments
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .map(String::from_utf8_lossy)
            .collect();
        Some(Self {
            pid,
            inside: field("NSpid").split_whitespace().filter_map(|number| number.parse().ok()).collect(),
            parent: signed(4) as i32,
            uid: number("Uid", 1)? as u32,
            gid: number("Gid", 1)? as u32,
            threads: number("Threads", 0).unwrap_or(1),
            name,
            arguments: arguments.join(" "),
            state: at(3).chars().next().unwrap_or('?'),
            group: signed(5) as i32,
            session: signed(6) as i32,
            terminal: signed(7) as u32,
            foreground: signed(8) as i32,
            cpu_ticks: unsigned(14) + unsigned(15),
            priority: signed(18),
            nice: signed(19),
            start_ticks: unsigned(22),
            virtual_bytes: unsigned(23),
            resident_kib: number("VmRSS", 0).unwrap_or(0),
        })
    }

    /// Its arguments, or its name in brackets when it shows none.
    pub(crate) fn command_line(&self) -> String {
        if self.arguments.is_empty() { format!("[{}]", self.name) } else { self.arguments.clone() }
    }

    /// Its terminal as ps(1) names it: `pts/0`, or `?` for none.
    pub(crate) fn terminal_name(&self) -> String {
        // makedev of the kernel's 32-bit form: minor bits 0-7 and 20-31, major bits 8-19.
        let (major, minor) =
            ((self.terminal >> 8) & 0xfff, (self.terminal & 0xff) | ((self.terminal >> 12) & 0xfff00));
        match major {
            136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
            4 if minor < 64 => format!("tty{minor}"),
            4 => format!("ttyS{}", minor - 64),
            5 if minor == 1 => "console".to_owned(),
            _ => "?".to_owned(),
        }
    }
}

/// The name of a user of the host, or the number: /etc/passwd is read, no other directory is asked.
pub(crate) fn user_name(passwd: &str, uid: u32) -> String {
    named(passwd, uid)
}

/// The name of a group of the host, or the number.
pub(crate) fn group_name(group: &str, gid: u32) -> String {
    named(group, gid)
}

fn named(table: &str, id: u32) -> String {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id.to_string()).then(|| name.to_owned())
    };
    table.lines().find_map(of_line).unwrap_or_else(|| id.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let status = "Name:\tx) R 1 (\nUid:\t0\t1000\t0\t0\nGid:\t5\t6\t7\t8\nNSpid:\t4242\t7\nThreads:\t3\nVmRSS:\t  12 kB\n";
        let stat = "4242 (x) R 1 () S 17 4242 4242 34817 4242 0 0 0 0 0 250 50 0 0 20 0 3 0 777 4096 3 1 1";
        let process = Process::parse(4242, status, stat, b"sh\0-c\0echo hi\0").unwrap();
        assert_eq!(process.name, "x) R 1 (");
        assert_eq!((process.parent, process.uid, process.gid, process.threads), (17, 1000, 6, 3));
        assert_eq!(process.inside, [4242, 7]);
        assert_eq!((process.cpu_ticks, process.start_ticks, process.resident_kib), (300, 777, 12));
        assert_eq!(process.terminal_name(), "pts/1");
        assert_eq!(process.command_line(), "sh -c echo hi");
    }

    #[test]
    fn this_process_reads_itself() {
        let own = Process::read(std::process::id() as i32).unwrap();
        assert_eq!(own.pid, std::process::id() as i32);
        assert!(!own.command_line().is_empty() && own.inside.first() == Some(&own.pid));
        assert!(Process::read(-1).is_none());
    }

    #[test]
    fn names_of_users() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/:\n";
        assert_eq!(user_name(passwd, 33), "web");
        assert_eq!(user_name(passwd, 3), "3");
    }
}
