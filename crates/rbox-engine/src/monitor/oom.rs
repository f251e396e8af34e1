//! Which process the kernel killed because memory ran out, from its log.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use rbox_spec::id::ContainerId;

/// The kernel gives one record a read, and none is longer (`PRINTK_MESSAGE_MAX`).
const RECORD: usize = 8192;

/// What the kernel's log says of the last such end in the control group of `id`, as a sentence. None where the log
/// cannot be read, or has gone over it.
pub(crate) fn told(id: &ContainerId) -> Option<String> {
    let mut log = std::fs::File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open("/dev/kmsg")
        .ok()?;
    let mut buffer = vec![0_u8; RECORD];
    let mut last = None;
    loop {
        match log.read(&mut buffer) {
            Ok(length) if length > 0 => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                last = sentence(&text, id.as_str()).or(last);
            }
            // EPIPE: this record was overwritten while it was read, the next one is there.
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {}
            _ => return last,
        }
    }
}

/// `…;oom-kill:constraint=…,task_memcg=/rbox/<id>,task=NAME,pid=N,uid=N` (`dump_oom_summary` in the kernel).
fn sentence(record: &str, id: &str) -> Option<String> {
    let line = record.lines().next()?;
    let at = line.find(";oom-kill:")?;
    let (groups, task) = line[at..].split_once(",task=")?;
    if !groups.contains(id) {
        return None;
    }
    // A name may hold anything, commas too.
    let (name, rest) = task.rsplit_once(",pid=")?;
    let pid: u32 = rest.split(',').next()?.parse().ok()?;
    Some(format!("out of memory: the kernel killed {name} (process {pid} of the host)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let id = "c0ffee";
        let line = "4,1234,5678,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c0ffee,mems_allowed=0,oom_memcg=/rbox/c0ffee,task_memcg=/rbox/c0ffee,task=a,pid=9 b,pid=4242,uid=0\n SUBSYSTEM=x\n";
        let told = sentence(line, id);
        assert_eq!(
            told.as_deref(),
            Some("out of memory: the kernel killed a,pid=9 b (process 4242 of the host)")
        );
        assert_eq!(sentence(line, "beef"), None);
        assert_eq!(sentence("6,1,2,-;eth0: link up", id), None);
    }
}
