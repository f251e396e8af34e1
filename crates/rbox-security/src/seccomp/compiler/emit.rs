//! A decided profile as a classic BPF program (Documentation/userspace-api/seccomp_filter.rst).
//!
//! For each architecture the call numbers are cut into ranges with one verdict, and a balanced tree of
//! comparisons finds the range: some ten instructions a call, where a list would be hundreds. Only instructions
//! are used on that path which the kernel's own look-ahead understands (seccomp_is_const_allow, 5.11): it walks
//! the program once for each call number at attach time, and calls that are always allowed then never run it.

use super::arch::{Arch, X32_BIT};
use super::resolve::{Action, ArchPolicy, Condition, Op, Policy, Verdict};

const LD_ABS: u16 = 0x20;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const AND: u16 = 0x54;
const RET: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

const fn insn(code: u16, jt: u8, jf: u8, k: u32) -> u64 {
    code as u64 | (jt as u64) << 16 | (jf as u64) << 24 | (k as u64) << 32
}

fn ret(action: Action) -> Vec<u64> {
    vec![insn(RET, 0, 0, action.0)]
}

/// The low and the high word of an argument, on a little-endian machine.
const fn arg_words(index: u8) -> (u32, u32) {
    let low = ARGS + 8 * index as u32;
    (low, low + 4)
}

/// `if accumulator <code> k { yes } else { no }`, both ending in a return.
fn branch(code: u16, k: u32, yes: Vec<u64>, no: Vec<u64>) -> Vec<u64> {
    // The shorter way first keeps most jumps within the 255 instructions a comparison can skip.
    let mut program = Vec::with_capacity(yes.len() + no.len() + 2);
    if let Ok(skip) = u8::try_from(no.len()) {
        program.push(insn(code, skip, 0, k));
        program.extend(no);
        program.extend(yes);
    } else if let Ok(skip) = u8::try_from(yes.len()) {
        program.push(insn(code, 0, skip, k));
        program.extend(yes);
        program.extend(no);
    } else {
        program.push(insn(code, 0, 1, k));
        program.push(insn(JA, 0, 0, no.len() as u32));
        // The jump above is taken when the comparison holds and leads over `no`.
        program.extend(no);
        program.extend(yes);
    }
    program
}

/// Verdicts by range of a number: each entry holds from its start to the next one's.
type Ranges<T> = Vec<(u32, T)>;

/// Adds a range, or takes the place of the last one if that starts here; equal neighbours become one.
fn push<T: PartialEq>(ranges: &mut Ranges<T>, start: u32, verdict: T) {
    if ranges.last().is_some_and(|(at, _)| *at == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|(_, last)| *last != verdict) {
        ranges.push((start, verdict));
    }
}

/// A balanced tree over `ranges`; the accumulator holds the number.
fn tree<T>(ranges: &[(u32, T)], leaf: &impl Fn(&T) -> Vec<u64>) -> Vec<u64> {
    match ranges {
        [] => Vec::new(),
        [(_, verdict)] => leaf(verdict),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let start = high.first().map_or(0, |(start, _)| *start);
            branch(JGE, start, tree(high, leaf), tree(low, leaf))
        }
    }
}

/// The ranges of one architecture's calls, from `start` on.
fn call_ranges(ranges: &mut Ranges<Verdict>, policy: &Policy, arch: &ArchPolicy, start: u32) {
    let default = || Verdict::Always(policy.default);
    push(ranges, start, default());
    for (number, verdict) in &arch.calls {
        push(ranges, *number, verdict.clone());
        push(ranges, number + 1, default());
    }
    if let Some(last) = arch.last {
        // ARM's private calls lie beyond: they keep their verdicts.
        let beyond: Ranges<Verdict> = ranges.iter().filter(|(at, _)| *at > last + 1).cloned().collect();
        ranges.retain(|(at, _)| *at <= last);
        push(ranges, last + 1, Verdict::Always(policy.newer));
        for (at, verdict) in beyond {
            let verdict = if verdict == default() { Verdict::Always(policy.newer) } else { verdict };
            push(ranges, at, verdict);
        }
    }
}

/// The whole program.
pub(crate) fn emit(policy: &Policy, native: Arch) -> Vec<u64> {
    let of = |arch: Arch| policy.arches.iter().find(|one| one.arch == arch);
    let mut rest = ret(Action::KILL_THREAD);
    // The native architecture is asked for first: it is put in front last.
    for arch in policy.arches.iter().filter(|one| one.arch != native && one.arch != Arch::X32) {
        let mut ranges = Vec::new();
        call_ranges(&mut ranges, policy, arch, 0);
        rest = branch(JEQ, arch.arch.audit(), calls(policy, &ranges, |_| arch.arch), rest);
    }
    if let Some(arch) = of(native) {
        let mut ranges = Vec::new();
        call_ranges(&mut ranges, policy, arch, 0);
        if native == Arch::X86_64 {
            match of(Arch::X32) {
                Some(x32) => call_ranges(&mut ranges, policy, x32, X32_BIT),
                // What libseccomp does: x32 is another architecture; only -1, a call skipped by a tracer, is not.
                None => {
                    let newest = ranges.last().map(|(_, verdict)| verdict.clone());
                    push(&mut ranges, X32_BIT, Verdict::Always(Action::KILL_THREAD));
                    push(&mut ranges, u32::MAX, newest.unwrap_or(Verdict::Always(policy.default)));
                }
            }
        }
        let which = |number: u32| if native == Arch::X86_64 && number >= X32_BIT { Arch::X32 } else { native };
        rest = branch(JEQ, native.audit(), calls(policy, &ranges, which), rest);
    }
    let mut program = vec![insn(LD_ABS, 0, 0, ARCH)];
    program.extend(rest);
    program
}

fn calls(policy: &Policy, ranges: &Ranges<Verdict>, arch: impl Fn(u32) -> Arch) -> Vec<u64> {
    // A leaf has to know its architecture for the width of arguments.
    let ranges: Vec<_> = ranges.iter().map(|(at, verdict)| (*at, (arch(*at), verdict))).collect();
    let mut program = vec![insn(LD_ABS, 0, 0, NR)];
    program.extend(tree(&ranges, &|(arch, verdict)| leaf(policy, *arch, verdict)));
    program
}

fn leaf(policy: &Policy, arch: Arch, verdict: &Verdict) -> Vec<u64> {
    match verdict {
        Verdict::Always(action) => ret(*action),
        Verdict::When(list) => by_value(policy, arch, list).unwrap_or_else(|| {
            // From the last alternative to the first: each falls through to what follows it.
            list.iter().rev().fold(ret(policy.default), |rest, (conditions, action)| {
                all(arch, conditions, *action, rest)
            })
        }),
    }
}

/// `action` when all conditions hold, else `rest`. `rest` stands once, at the end; what fails jumps there.
fn all(arch: Arch, conditions: &[Condition], action: Action, rest: Vec<u64>) -> Vec<u64> {
    // Built from the back; `fail` is the distance from the instruction in front of `body` to `rest`.
    let mut body = ret(action);
    for condition in conditions.iter().rev() {
        let mut test = Vec::new();
        condition_test(&mut test, arch, *condition, body.len());
        test.extend(body);
        body = test;
    }
    body.extend(rest);
    body
}

/// Where a jump goes.
#[derive(Clone, Copy)]
enum To {
    /// The next instruction.
    Next,
    /// Past the test: the condition holds.
    Holds,
    /// To what comes when it does not.
    Fails,
}

/// The instructions that test one condition; `behind` are those between the test and the place to fail to.
fn condition_test(out: &mut Vec<u64>, arch: Arch, condition: Condition, behind: usize) {
    use To::{Fails, Holds, Next};
    let (low, high) = arg_words(condition.index);
    let (value_low, value_high) = (condition.value as u32, (condition.value >> 32) as u32);
    // (code, true, false, k)
    let mut steps: Vec<(u16, To, To, u32)> = Vec::new();
    let wide = arch.is_64_bit();
    let load = |offset| (LD_ABS, Next, Next, offset);
    match condition.op {
        Op::Eq | Op::Ne => {
            let (equal, unequal) = if condition.op == Op::Eq { (Holds, Fails) } else { (Fails, Holds) };
            if wide {
                steps.extend([load(high), (JEQ, Next, unequal, value_high)]);
            }
            steps.extend([load(low), (JEQ, equal, unequal, value_low)]);
        }
        Op::MaskedEq { mask } => {
            let (mask_low, mask_high) = (mask as u32, (mask >> 32) as u32);
            if wide && mask_high != 0 {
                steps.extend([load(high), (AND, Next, Next, mask_high), (JEQ, Next, Fails, value_high)]);
            }
            steps.extend([load(low), (AND, Next, Next, mask_low), (JEQ, Holds, Fails, value_low)]);
        }
        Op::Gt | Op::Ge | Op::Lt | Op::Le => {
            // a < b is not a >= b, a <= b is not a > b.
            let (code, yes, no) = match condition.op {
                Op::Gt => (JGT, Holds, Fails),
                Op::Ge => (JGE, Holds, Fails),
                Op::Lt => (JGE, Fails, Holds),
                _ => (JGT, Fails, Holds),
            };
            if wide {
                // Greater in the high word decides, and so does less; only equal asks the low word.
                steps.extend([load(high), (JGT, yes, Next, value_high), (JEQ, Next, no, value_high)]);
            }
            steps.extend([load(low), (code, yes, no, value_low)]);
        }
    }
    let length = steps.len();
    for (at, (code, when, otherwise, k)) in steps.into_iter().enumerate() {
        let left = length - at - 1;
        let distance = |to: To| match to {
            Next => 0,
            Holds => left as u8,
            // A rule has at most six conditions of five instructions: this fits.
            Fails => (left + behind) as u8,
        };
        out.push(insn(code, distance(when), distance(otherwise), k));
    }
}

/// The common case, a list of values of one argument with one action, as a tree over that argument's low word:
/// with socket's address families that is a fifth of the instructions of a test for each.
fn by_value(policy: &Policy, arch: Arch, list: &[(Vec<Condition>, Action)]) -> Option<Vec<u64>> {
    let (first, action) = list.first()?;
    let index = first.first()?.index;
    if list.len() < 4 {
        return None;
    }
    let mut spans = Vec::new();
    for (conditions, other) in list {
        let [condition] = conditions.as_slice() else { return None };
        if condition.index != index || other != action {
            return None;
        }
        let value = u32::try_from(condition.value).ok()?;
        spans.push(match condition.op {
            Op::Eq => (value, value),
            Op::Le => (0, value),
            Op::Lt => (0, value.checked_sub(1)?),
            _ => return None,
        });
    }
    spans.sort_unstable();
    let mut ranges = vec![(0, policy.default)];
    let mut next = 0;
    for (from, to) in spans {
        // Spans may overlap; what an earlier one covered stays.
        if u64::from(to) >= next {
            push(&mut ranges, from.max(next as u32), *action);
            next = u64::from(to) + 1;
            if let Ok(after) = u32::try_from(next) {
                push(&mut ranges, after, policy.default);
            }
        }
    }
    let (low, high) = arg_words(index);
    let mut program = vec![insn(LD_ABS, 0, 0, low)];
    program.extend(tree(&ranges, &|action| ret(*action)));
    if !arch.is_64_bit() {
        return Some(program);
    }
    let mut wide = vec![insn(LD_ABS, 0, 0, high)];
    wide.extend(branch(JEQ, 0, program, ret(policy.default)));
    Some(wide)
}
