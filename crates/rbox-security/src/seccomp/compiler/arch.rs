//! Architectures a filter speaks about and the numbers of their system calls.

/// As the kernel reports it in `struct seccomp_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// `x86_64`
    X86_64,
    /// `x86_64` with 32-bit pointers: the same audit number, another bit in the call's.
    X32,
    /// 32-bit x86
    X86,
    /// aarch64
    Aarch64,
    /// 32-bit ARM, EABI
    Arm,
}

/// Set in the numbers of x32 calls (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 0x4000_0000;
/// ARM's private calls start here (`__ARM_NR_BASE`).
pub const ARM_PRIVATE: u32 = 0x0f_0000;

/// The calls of socketcall, its first argument counting from 1.
const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

impl Arch {
    /// The name in a profile's `archMap` and `architectures`.
    pub fn from_scmp(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            "SCMP_ARCH_ARM" => Self::Arm,
            _ => return None,
        })
    }

    /// The name in a profile's `includes` and `excludes`: that of the Go port.
    pub const fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X32 => "x32",
            Self::X86 => "386",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are compared in all their 64 bits. x32 passes pointers and longs of 32.
    pub const fn is_64_bit(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// Whether a filter on `native` can speak about this one.
    pub const fn runs_on(self, native: Self) -> bool {
        match native {
            Self::X86_64 => matches!(self, Self::X86_64 | Self::X32 | Self::X86),
            Self::Aarch64 => matches!(self, Self::Aarch64 | Self::Arm),
            _ => false,
        }
    }

    /// The number of the call `name`; `None` where the architecture does not have it.
    pub fn number(self, name: &str) -> Option<u32> {
        match self {
            Self::X86_64 => name.parse::<syscalls::x86_64::Sysno>().ok().map(|call| call.id() as u32),
            Self::X32 => x32(name),
            // A keyword where the crate lists them.
            Self::X86 if name == "break" => Some(17),
            Self::X86 => name.parse::<syscalls::x86::Sysno>().ok().map(|call| call.id() as u32),
            // The crate has this one under the name of its number's macro for 32-bit kernels.
            Self::Aarch64 if name == "newfstatat" => Some(79),
            // And it has those with 64-bit times, which only 32-bit architectures need.
            Self::Aarch64 => name
                .parse::<syscalls::aarch64::Sysno>()
                .ok()
                .map(|call| call.id() as u32)
                .filter(|number| !(403..=423).contains(number)),
            Self::Arm => arm(name),
        }
    }

    /// On 32-bit x86: the multiplexing call `name` can also be made through, and the value of its first argument
    /// (linux/net.h, linux/ipc.h).
    pub fn multiplexed(self, name: &str) -> Option<(u32, u64)> {
        if self != Self::X86 {
            return None;
        }
        if let Some(at) = SOCKETCALL.iter().position(|call| *call == name) {
            return Some((self.number("socketcall")?, at as u64 + 1));
        }
        let ipc = match name {
            "semop" => 1,
            "semget" => 2,
            "semctl" => 3,
            "semtimedop" => 4,
            "msgsnd" => 11,
            "msgrcv" => 12,
            "msgget" => 13,
            "msgctl" => 14,
            "shmat" => 21,
            "shmdt" => 22,
            "shmget" => 23,
            "shmctl" => 24,
            _ => return None,
        };
        Some((self.number("ipc")?, ipc))
    }
}

fn x32(name: &str) -> Option<u32> {
    // Those whose structures hold pointers or longs have numbers of their own (arch/x86/entry/syscalls/syscall_64.tbl).
    const OWN: [&str; 36] = [
        "rt_sigaction",
        "rt_sigreturn",
        "ioctl",
        "readv",
        "writev",
        "recvfrom",
        "sendmsg",
        "recvmsg",
        "execve",
        "ptrace",
        "rt_sigpending",
        "rt_sigtimedwait",
        "rt_sigqueueinfo",
        "sigaltstack",
        "timer_create",
        "mq_notify",
        "kexec_load",
        "waitid",
        "set_robust_list",
        "get_robust_list",
        "vmsplice",
        "move_pages",
        "preadv",
        "pwritev",
        "rt_tgsigqueueinfo",
        "recvmmsg",
        "sendmmsg",
        "process_vm_readv",
        "process_vm_writev",
        "setsockopt",
        "getsockopt",
        "io_setup",
        "io_submit",
        "execveat",
        "preadv2",
        "pwritev2",
    ];
    const NOT_THERE: [&str; 14] = [
        "uselib",
        "_sysctl",
        "create_module",
        "get_kernel_syms",
        "query_module",
        "nfsservctl",
        "set_thread_area",
        "get_thread_area",
        "epoll_ctl_old",
        "epoll_wait_old",
        "vserver",
        "uretprobe",
        "uprobe",
        "map_shadow_stack",
    ];
    if let Some(at) = OWN.iter().position(|own| *own == name) {
        return Some(X32_BIT | (512 + at as u32));
    }
    if NOT_THERE.contains(&name) {
        return None;
    }
    Arch::X86_64.number(name).map(|number| X32_BIT | number)
}

fn arm(name: &str) -> Option<u32> {
    // What the kernel calls by these names is not in its table (arch/arm/kernel/traps.c), or under another one.
    match name {
        "breakpoint" => Some(ARM_PRIVATE + 1),
        "cacheflush" => Some(ARM_PRIVATE + 2),
        "usr26" => Some(ARM_PRIVATE + 3),
        "usr32" => Some(ARM_PRIVATE + 4),
        "set_tls" => Some(ARM_PRIVATE + 5),
        "get_tls" => Some(ARM_PRIVATE + 6),
        "sync_file_range2" => Some(341),
        _ => name.parse::<syscalls::arm::Sysno>().ok().map(|call| call.id() as u32),
    }
}
