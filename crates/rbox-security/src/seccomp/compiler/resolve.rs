//! A profile's rules, decided for one container: which action each call of each architecture gets.
//!
//! The reading is Docker's and runc's: a rule whose `includes` and `excludes` do not fit the container is left
//! out, names an architecture does not have are passed over, a rule that only repeats the default action is no
//! rule. Between rules for the same call it is libseccomp's: one without conditions wins over those with.

use super::arch::{ARM_PRIVATE, Arch, X32_BIT};
use super::context::{CompileError, Context};
use super::profile::{Arg, Document, Rule, When};
use rbox_spec::Capability;
use std::collections::BTreeMap;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The largest number the kernel returns as an errno.
const MAX_ERRNO: u32 = 4095;

/// What happens to a call: a `SECCOMP_RET_*` value of linux/seccomp.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action(pub(crate) u32);

impl Action {
    /// `SECCOMP_RET_ALLOW`
    pub(crate) const ALLOW: Self = Self(0x7fff_0000);
    /// `SECCOMP_RET_LOG`
    pub(crate) const LOG: Self = Self(0x7ffc_0000);
    /// `SECCOMP_RET_KILL_THREAD`, what libseccomp gives a call of an architecture no rule is about.
    pub(crate) const KILL_THREAD: Self = Self(0);

    /// `SECCOMP_RET_ERRNO`
    pub(crate) const fn errno(errno: u32) -> Self {
        Self(0x0005_0000 | errno)
    }

    /// Whether the call happens.
    pub(crate) const fn permits(self) -> bool {
        self.0 >= 0x7ff0_0000
    }

    fn parse(name: &str, errno: Option<u32>) -> Result<Self, CompileError> {
        let data = errno.unwrap_or(EPERM);
        if data > MAX_ERRNO {
            return Err(bad(format!("errno {data} is above {MAX_ERRNO}")));
        }
        Ok(match name {
            "SCMP_ACT_ALLOW" => Self::ALLOW,
            "SCMP_ACT_LOG" => Self::LOG,
            "SCMP_ACT_ERRNO" => Self::errno(data),
            "SCMP_ACT_TRACE" => Self(0x7ff0_0000 | data),
            "SCMP_ACT_TRAP" => Self(0x0003_0000),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self::KILL_THREAD,
            "SCMP_ACT_KILL_PROCESS" => Self(0x8000_0000),
            "SCMP_ACT_NOTIFY" => {
                return Err(bad(
                    "SCMP_ACT_NOTIFY needs a supervisor that answers each call, and rbox runs none".into(),
                ));
            }
            other => {
                return Err(bad(format!(
                    "seccomp action {other:?} is none of SCMP_ACT_ALLOW, ERRNO, TRAP, KILL_PROCESS, KILL_THREAD, LOG, TRACE"
                )));
            }
        })
    }
}

fn bad(why: String) -> CompileError {
    CompileError::Profile(why)
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // As in seccomp_rule_add(3).
pub(crate) enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    /// `arg & mask == value`
    MaskedEq {
        mask: u64,
    },
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// 0 to 5.
    pub(crate) index: u8,
    /// How.
    pub(crate) op: Op,
    /// With what.
    pub(crate) value: u64,
}

/// What a call gets: the first alternative all of whose conditions hold, else the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Always this.
    Always(Action),
    /// Depending on its arguments.
    When(Vec<(Vec<Condition>, Action)>),
}

/// The rules of one architecture.
#[derive(Clone, Debug)]
pub(crate) struct ArchPolicy {
    /// Which.
    pub(crate) arch: Arch,
    /// By number.
    pub(crate) calls: BTreeMap<u32, Verdict>,
    /// The last call the profile knows: what comes after is newer, and does not exist (ENOSYS) rather than being
    /// forbidden, so that a libc takes the older call. `None` where the profile permits what it does not name.
    pub(crate) last: Option<u32>,
}

/// A profile decided.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// For calls without a rule.
    pub(crate) default: Action,
    /// Each architecture; calls of others kill the thread, as with libseccomp.
    pub(crate) arches: Vec<ArchPolicy>,
    /// For calls after the last known.
    pub(crate) newer: Action,
}

/// Decides `profile` for `context`.
pub(crate) fn resolve(profile: &Document, context: Context) -> Result<Policy, CompileError> {
    let default = Action::parse(&profile.default_action, profile.default_errno_ret)?;
    if let Some(flag) = profile.flags.iter().flatten().find(|flag| *flag != "SECCOMP_FILTER_FLAG_TSYNC") {
        return Err(bad(format!("seccomp flag {flag:?}: rbox installs filters without flags")));
    }
    let mut arches: Vec<_> = architectures(profile, context.native)?
        .into_iter()
        .map(|arch| ArchPolicy { arch, calls: BTreeMap::new(), last: None })
        .collect();
    for rule in profile.syscalls.iter().flatten() {
        let names = names(rule)?;
        let action = Action::parse(&rule.action, rule.errno_ret)?;
        let conditions = rule.args.iter().flatten().map(condition).collect::<Result<Vec<_>, _>>()?;
        if !holds(rule, context)? {
            continue;
        }
        for policy in &mut arches {
            for name in &names {
                policy.add(name, &alternatives(&conditions), action, default);
            }
        }
    }
    let newer = Action::errno(ENOSYS);
    for policy in &mut arches {
        if default.permits() || default == newer {
            policy.last = None;
        }
    }
    Ok(Policy { default, arches, newer })
}

/// `FS_IOC_FSSETXATTR`, which gives a file to another project; `FS_IOC_SETFLAGS` and its form of 32 bits, which take from a directory
/// that what is made in it belongs to its project (linux/fs.h).
const OF_PROJECTS: [u64; 3] = [0x401c_5820, 0x4008_6602, 0x4004_6602];

impl Policy {
    /// Forbids what changes the project that a file belongs to, and nothing else: its limit would not hold. The kernel takes the
    /// lower half of an ioctl's number, so the rest of it does not count here either.
    pub(crate) fn keep_projects(&mut self) {
        let denied = Action::errno(EPERM);
        let low = |index, mask, value| vec![Condition { index, op: Op::MaskedEq { mask }, value }];
        for policy in &mut self.arches {
            if let Some(number) = policy.arch.number("ioctl") {
                let before = policy.calls.get(&number).cloned().unwrap_or(Verdict::Always(self.default));
                let rest = match before {
                    Verdict::Always(action) => vec![(low(1, 0, 0), action)],
                    Verdict::When(list) => list,
                };
                let forbidden = OF_PROJECTS.map(|value| (low(1, u64::from(u32::MAX), value), denied));
                let list = forbidden.into_iter().chain(rest).collect();
                policy.calls.insert(number, Verdict::When(list));
            }
            // The same as a call of its own, where a profile knows it.
            let number = policy.arch.number("file_setattr");
            if let Some(number) = number
                && (policy.calls.contains_key(&number) || self.default.permits())
            {
                policy.calls.insert(number, Verdict::Always(denied));
            }
        }
    }
}

impl ArchPolicy {
    fn add(&mut self, name: &str, alternatives: &[Vec<Condition>], action: Action, default: Action) {
        let number = self.arch.number(name);
        if let Some(number) = number.filter(|number| number & !X32_BIT < ARM_PRIVATE) {
            self.last = Some(self.last.map_or(number, |last| last.max(number)));
        }
        if action == default {
            return;
        }
        if let Some(number) = number {
            for conditions in alternatives {
                self.insert(number, conditions.clone(), action);
            }
        }
        // The same call through socketcall or ipc, whose other arguments are out of sight. What forbids the call
        // forbids it there too; what permits it under conditions cannot permit it there.
        if let Some((number, first)) = self.arch.multiplexed(name) {
            let conditional = alternatives.iter().any(|conditions| !conditions.is_empty());
            if !conditional || !action.permits() {
                let through = Condition { index: 0, op: Op::Eq, value: first };
                self.insert(number, vec![through], action);
            }
        }
    }

    fn insert(&mut self, number: u32, conditions: Vec<Condition>, action: Action) {
        match self.calls.get_mut(&number) {
            None if conditions.is_empty() => {
                self.calls.insert(number, Verdict::Always(action));
            }
            None => {
                self.calls.insert(number, Verdict::When(vec![(conditions, action)]));
            }
            Some(Verdict::Always(_)) => {}
            Some(verdict) if conditions.is_empty() => *verdict = Verdict::Always(action),
            Some(Verdict::When(list)) => {
                let said = |(known, then): &(Vec<Condition>, Action)| {
                    *known == conditions || (*then == action && implies(&conditions, known))
                };
                if !list.iter().any(said) {
                    list.push((conditions, action));
                }
            }
        }
    }
}

/// Whether `known` holds wherever `conditions` do, as far as it is easily seen: equal to one value is unequal to
/// another. The calls of socketcall are such a list.
fn implies(conditions: &[Condition], known: &[Condition]) -> bool {
    match (conditions, known) {
        ([one], [other]) => {
            one.index == other.index && one.op == Op::Eq && other.op == Op::Ne && one.value != other.value
        }
        _ => false,
    }
}

/// Conditions on different arguments hold together; as soon as two are on the same one, each stands for itself
/// (what runc makes of a rule).
fn alternatives(conditions: &[Condition]) -> Vec<Vec<Condition>> {
    let same = |one: &Condition| conditions.iter().filter(|other| other.index == one.index).count() > 1;
    if conditions.iter().any(same) {
        conditions.iter().map(|condition| vec![*condition]).collect()
    } else {
        vec![conditions.to_vec()]
    }
}

fn architectures(profile: &Document, native: Arch) -> Result<Vec<Arch>, CompileError> {
    let map = profile.arch_map.as_deref().unwrap_or_default();
    let list = profile.architectures.as_deref().unwrap_or_default();
    if !map.is_empty() && !list.is_empty() {
        return Err(bad("both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'".into()));
    }
    let mut arches = vec![native];
    let ours = map.iter().filter(|entry| Arch::from_scmp(&entry.architecture) == Some(native));
    let names = list.iter().chain(ours.flat_map(|entry| entry.sub_architectures.iter().flatten()));
    for name in names {
        if !name.starts_with("SCMP_ARCH_") {
            return Err(bad(format!("seccomp architecture {name:?} is none of SCMP_ARCH_*")));
        }
        // Others cannot make a call on this machine.
        if let Some(arch) =
            Arch::from_scmp(name).filter(|arch| arch.runs_on(native) && !arches.contains(arch))
        {
            arches.push(arch);
        }
    }
    Ok(arches)
}

fn names(rule: &Rule) -> Result<Vec<&str>, CompileError> {
    match (&rule.name, rule.names.as_deref().unwrap_or_default()) {
        (Some(_), [_, ..]) => Err(bad(
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
                .into(),
        )),
        (Some(name), []) => Ok(vec![name]),
        (None, names) => Ok(names.iter().map(String::as_str).collect()),
    }
}

fn condition(arg: &Arg) -> Result<Condition, CompileError> {
    let index = u8::try_from(arg.index).ok().filter(|index| *index < 6);
    let index = index.ok_or_else(|| bad(format!("a system call has arguments 0 to 5, not {}", arg.index)))?;
    let (op, value) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (Op::Ne, arg.value),
        "SCMP_CMP_LT" => (Op::Lt, arg.value),
        "SCMP_CMP_LE" => (Op::Le, arg.value),
        "SCMP_CMP_EQ" => (Op::Eq, arg.value),
        "SCMP_CMP_GE" => (Op::Ge, arg.value),
        "SCMP_CMP_GT" => (Op::Gt, arg.value),
        // libseccomp masks both sides, so bits outside the mask do not make the condition impossible.
        "SCMP_CMP_MASKED_EQ" => (Op::MaskedEq { mask: arg.value }, arg.value_two & arg.value),
        other => return Err(bad(format!("seccomp operator {other:?} is none of SCMP_CMP_*"))),
    };
    Ok(Condition { index, op, value })
}

/// Whether the rule is one for this container.
fn holds(rule: &Rule, context: Context) -> Result<bool, CompileError> {
    let none = When::default();
    let (includes, excludes) =
        (rule.includes.as_ref().unwrap_or(&none), rule.excludes.as_ref().unwrap_or(&none));
    let native = |arch: &String| arch == context.native.go_name();
    if includes.arches.as_ref().is_some_and(|list| !list.is_empty() && !list.iter().any(native))
        || excludes.arches.iter().flatten().any(native)
    {
        return Ok(false);
    }
    // A capability this build does not know is not in the container's set.
    let held = |name: &String| name.parse::<Capability>().is_ok_and(|cap| context.capabilities.contains(cap));
    if !includes.caps.iter().flatten().all(held) || excludes.caps.iter().flatten().any(held) {
        return Ok(false);
    }
    let reached = |when: &When| when.min_kernel.as_deref().map(version).transpose();
    if reached(includes)?.is_some_and(|min| context.kernel < min) {
        return Ok(false);
    }
    Ok(reached(excludes)?.is_none_or(|min| context.kernel < min))
}

/// `major.minor`
fn version(text: &str) -> Result<(u32, u32), CompileError> {
    let parsed =
        text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parsed.ok_or_else(|| bad(format!("invalid kernel version {text:?}: it is major.minor")))
}
