//! The capabilities a container gets unless told otherwise. Why each: docs/security.md.

use rbox_spec::{CapSet, Capability};

/// Podman's eleven and `AUDIT_WRITE`.
pub const DEFAULT_CAPABILITIES: CapSet = CapSet::of(&[
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::AuditWrite,
    Capability::Setfcap,
]);
