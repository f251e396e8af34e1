//! What `/proc/PID/exe` of this process is: another view of the same file, put in the place of the one it was started from.
//!
//! The link follows what the process was executed from, and its children have it too. Executing the same file again costs a start of
//! the C library and of everything after it; this costs a few mappings.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;

use crate::error::SysError;

/// Has this process run from `file` from here on, which is the very file that it was started from, reached another way (such as
/// through a read-only mount). Nothing of the old one is left to it, nor to its children.
///
/// Each segment of the program is put anew in its place: what is never written is mapped from `file`, what is written is a copy in memory.
/// The kernel then takes `file` for the link, which it refuses while anything of the old one is mapped (`PR_SET_MM_MAP`, prctl(2)).
///
/// # Errors
/// When there is more than one thread, when the program's segments are not to be found, and when the kernel does not take it, as one
/// without `CONFIG_CHECKPOINT_RESTORE`. The process goes on all the same, and the link is as it was.
pub fn move_to(file: BorrowedFd<'_>) -> Result<(), SysError> {
    if !crate::process::has_one_thread() {
        return Err(refused(Errno::EBUSY));
    }
    let (segments, sealed) = segments().ok_or_else(|| refused(Errno::ENOEXEC))?;
    for segment in &segments {
        segment.put_anew(file).map_err(refused)?;
    }
    if let Some(sealed) = sealed {
        // SAFETY: it is of this program, and what is there is not written after its start.
        check(unsafe { libc::mprotect(at(sealed.start), sealed.length, libc::PROT_READ) })
            .map_err(refused)?;
    }
    let layout = Layout::now(file).ok_or_else(|| refused(Errno::ENODATA))?;
    let size = size_of::<Layout>();
    // SAFETY: `layout` is what the kernel reads, of this size, and what it says of this process is so already, but for its file.
    let set = unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const layout, size, 0_usize) };
    check(set).map_err(refused)
}

/// Where the parts of a process are, as the kernel shows them to others (`prctl_mm_map` of linux/prctl.h).
#[repr(C)]
#[derive(Debug)]
struct Layout {
    code: [u64; 2],
    data: [u64; 2],
    heap: [u64; 2],
    stack: u64,
    arguments: [u64; 2],
    environment: [u64; 2],
    auxiliary: u64,
    auxiliary_size: u32,
    file: i32,
}

impl Layout {
    /// This process's own, from `proc_pid_stat(5)`, with another file. `PR_SET_MM_EXE_FILE` would need nothing of it, but a capability that
    /// root does not have everywhere.
    fn now(file: BorrowedFd<'_>) -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // From the third field on: the second one may have anything in it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let pair = |number| Some([field(number)?, field(number + 1)?]);
        // SAFETY: brk(2) with an address that cannot be only tells where the heap ends.
        let heap_end = unsafe { libc::syscall(libc::SYS_brk, 0) };
        Some(Self {
            code: pair(26)?,
            data: pair(45)?,
            heap: [field(47)?, u64::try_from(heap_end).ok()?],
            stack: field(28)?,
            arguments: pair(48)?,
            environment: pair(50)?,
            auxiliary: 0,
            auxiliary_size: 0,
            file: file.as_raw_fd(),
        })
    }
}

fn refused(errno: Errno) -> SysError {
    SysError::new("prctl", "PR_SET_MM, PR_SET_MM_MAP".to_owned(), errno)
}

fn check(result: i32) -> Result<(), Errno> {
    if result == -1 { Err(Errno::last()) } else { Ok(()) }
}

fn at(address: usize) -> *mut libc::c_void {
    std::ptr::with_exposed_provenance_mut(address)
}

/// Whole pages of this program in memory.
#[derive(Debug, Clone, Copy)]
struct Pages {
    start: usize,
    length: usize,
}

impl Pages {
    fn around(start: usize, length: usize, page: usize) -> Self {
        let first = start & !(page - 1);
        Self { start: first, length: (start + length).next_multiple_of(page) - first }
    }
}

/// What of the program's file is in memory, and where.
#[derive(Debug)]
struct Segment {
    pages: Pages,
    /// Where they begin in the file.
    offset: libc::off_t,
    is_written: bool,
    protection: i32,
}

impl Segment {
    /// Puts the same bytes at the same place. The code that does it is among them: each step leaves everything there and whole.
    fn put_anew(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        let Pages { start, length } = self.pages;
        let (source, kind) = if self.is_written { (-1, libc::MAP_ANONYMOUS) } else { (file.as_raw_fd(), 0) };
        let offset = if self.is_written { 0 } else { self.offset };
        // SAFETY: at a place that the kernel chooses; nothing that is there now is touched.
        let new = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                self.protection,
                libc::MAP_PRIVATE | kind,
                source,
                offset,
            )
        };
        if new == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        if self.is_written {
            // SAFETY: both are `length` bytes, one of them new. There is no other thread, so what is copied stays as it is until it is
            // in its place: the calls below write nothing there.
            unsafe { std::ptr::copy_nonoverlapping(at(start).cast::<u8>(), new.cast::<u8>(), length) };
        }
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: what comes to `start` has the same bytes as what it takes the place of, in one step of the kernel.
        let moved = unsafe { libc::mremap(new, length, length, flags, at(start)) };
        if moved == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
    }
}

/// The segments of this program that are of its file, and those pages that were sealed when it had started (`PT_GNU_RELRO`).
fn segments() -> Option<(Vec<Segment>, Option<Pages>)> {
    // SAFETY: getauxval(3) reads what the kernel has put beside the stack.
    let told = |what| unsafe { libc::getauxval(what) } as usize;
    let (page, table, count) = (told(libc::AT_PAGESZ), told(libc::AT_PHDR), told(libc::AT_PHNUM));
    // The table follows the header of the file, and both are on its first page: so linkers lay programs out.
    let start = table.checked_sub(size_of::<libc::Elf64_Ehdr>())?;
    if page == 0 || start % page != 0 {
        return None;
    }
    // SAFETY: the kernel has given the table's place and length; it is of the program's first segment, which stays mapped.
    let headers = unsafe { std::slice::from_raw_parts(at(table).cast::<libc::Elf64_Phdr>(), count) };
    let first = headers.iter().find(|header| header.p_type == libc::PT_LOAD && header.p_offset == 0)?;
    let base = start.wrapping_sub(first.p_vaddr as usize);
    let place = |header: &libc::Elf64_Phdr| base.wrapping_add(header.p_vaddr as usize);
    let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_filesz > 0);
    let segments = loaded.map(|header| {
        let pages = Pages::around(place(header), header.p_filesz as usize, page);
        let before = place(header) - pages.start;
        let is_written = header.p_flags & libc::PF_W != 0;
        let executed = if header.p_flags & libc::PF_X != 0 { libc::PROT_EXEC } else { 0 };
        let written = if is_written { libc::PROT_WRITE } else { 0 };
        let offset = (header.p_offset as usize - before) as libc::off_t;
        Segment { pages, offset, is_written, protection: libc::PROT_READ | executed | written }
    });
    let sealed = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO).map(|header| {
        let whole = Pages::around(place(header), header.p_memsz as usize, page);
        let end = (place(header) + header.p_memsz as usize) & !(page - 1);
        Pages { start: whole.start, length: end.saturating_sub(whole.start) }
    });
    Some((segments.collect(), sealed))
}
