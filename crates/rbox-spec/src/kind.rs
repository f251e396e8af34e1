//! What an error means to whoever asked, told apart from its words: each error of a library has a `kind()`.

use std::io;

/// What an error means. The exit code of a command comes from it, and so will the status of an HTTP answer.
///
/// `run` and `exec` have codes of their own: 126 and 127 for [`Kind::NotExecuted`], 125 for all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// What was named is not there. Exit code 1, HTTP 404.
    NotFound,
    /// The state of something else is in the way: a name is taken, a container runs, an image is used. Exit code 1, HTTP 409.
    Conflict,
    /// The request itself is wrong, whatever the state of things. Exit code 125, HTTP 400.
    Invalid,
    /// Not allowed: by permissions, by a registry, or for what rbox keeps for itself. Exit code 1, HTTP 403.
    Denied,
    /// Somebody else does not answer: a registry, a network, another process. Later it may work. Exit code 1, HTTP 503.
    Unavailable,
    /// No room is left: on a disk, for an address, on a bridge. Exit code 1, HTTP 507.
    NoSpace,
    /// It was understood, and this host or rbox cannot do it. Exit code 1, HTTP 501.
    Unsupported,
    /// What was read is not what it must be: a record, an archive, what a registry sent. Exit code 1, HTTP 500.
    Damaged,
    /// The program could not be executed: not there, no permission, a wrong format. Exit code 126 or 127, HTTP 400.
    NotExecuted,
    /// Anything else that failed, such as a call that the kernel refused. Exit code 1, HTTP 500.
    Internal,
}

impl Kind {
    /// Each of them at its own number, by which one process tells another.
    pub const ALL: [Self; 10] = [
        Self::NotFound,
        Self::Conflict,
        Self::Invalid,
        Self::Denied,
        Self::Unavailable,
        Self::NoSpace,
        Self::Unsupported,
        Self::Damaged,
        Self::NotExecuted,
        Self::Internal,
    ];

    /// Of a failed call. Never [`Kind::Invalid`]: what got as far as the kernel was understood, and EINVAL does not say whose value was wrong.
    pub fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound | Io::AddrNotAvailable => Self::NotFound,
            Io::AlreadyExists
            | Io::AddrInUse
            | Io::DirectoryNotEmpty
            | Io::ResourceBusy
            | Io::ExecutableFileBusy => Self::Conflict,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => Self::Denied,
            Io::StorageFull | Io::QuotaExceeded => Self::NoSpace,
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::BrokenPipe
            | Io::WouldBlock
            | Io::TimedOut
            | Io::Interrupted
            | Io::OutOfMemory => Self::Unavailable,
            Io::Unsupported => Self::Unsupported,
            Io::InvalidData | Io::UnexpectedEof => Self::Damaged,
            _ => Self::Internal,
        }
    }

    /// Of a failed call's number.
    pub fn of_errno(errno: i32) -> Self {
        Self::of_io(&io::Error::from_raw_os_error(errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_at_its_number() {
        assert!(Kind::ALL.iter().enumerate().all(|(number, kind)| *kind as usize == number));
    }

    #[test]
    fn numbers_have_kinds() {
        // Of Linux on every architecture rbox builds for (asm-generic/errno.h).
        let table = [
            (1, Kind::Denied),        // EPERM
            (2, Kind::NotFound),      // ENOENT
            (5, Kind::Internal),      // EIO
            (12, Kind::Unavailable),  // ENOMEM
            (13, Kind::Denied),       // EACCES
            (16, Kind::Conflict),     // EBUSY
            (17, Kind::Conflict),     // EEXIST
            (22, Kind::Internal),     // EINVAL
            (28, Kind::NoSpace),      // ENOSPC
            (30, Kind::Denied),       // EROFS
            (95, Kind::Unsupported),  // EOPNOTSUPP
            (98, Kind::Conflict),     // EADDRINUSE
            (111, Kind::Unavailable), // ECONNREFUSED
            (122, Kind::NoSpace),     // EDQUOT
        ];
        for (errno, kind) in table {
            assert_eq!(Kind::of_errno(errno), kind, "{errno}");
        }
    }
}
