//! A decided profile as a classic BPF program (Documentation/userspace-api/seccomp_filter.rst).
//!
//! For each architecture the call numbers are cut into ranges with one verdict, and a balanced tree of
//! comparisons finds the range: some ten instructions a call, where a list would be hundreds. Only instructions
//! are used on that path which the kernel's own look-ahead understands (`seccomp_is_const_allow`, 5.11): it walks
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

/// Where a comparison goes on.
#[derive(Clone, Copy, Debug)]
enum Jump {
    /// Over so many instructions.
    Over(u8),
    /// To an instruction that returns this; it is put behind the code later, once for all who go there.
    Return(Action),
}

/// An instruction. Those that do not compare have both ways lead to the next one.
#[derive(Clone, Copy, Debug)]
struct Insn {
    code: u16,
    yes: Jump,
    no: Jump,
    k: u32,
}

impl Insn {
    const fn plain(code: u16, k: u32) -> Self {
        Self { code, yes: Jump::Over(0), no: Jump::Over(0), k }
    }
}

/// A verdict, or the code that finds one.
#[derive(Clone, Debug)]
enum Node {
    Return(Action),
    Code(Vec<Insn>),
}

/// Code up to this length shares its returns: a jump reaches 255, and a few returns come behind.
const SHARING: usize = 240;

impl Node {
    /// Code without open ends: the returns it jumps to are behind it.
    fn closed(self) -> Vec<Insn> {
        let mut code = match self {
            Self::Return(action) => return vec![Insn::plain(RET, action.0)],
            Self::Code(code) => code,
        };
        let length = code.len();
        let mut returns: Vec<Action> = Vec::new();
        for (at, insn) in code.iter_mut().enumerate() {
            for jump in [&mut insn.yes, &mut insn.no] {
                if let Jump::Return(action) = *jump {
                    let which = returns.iter().position(|known| *known == action).unwrap_or_else(|| {
                        returns.push(action);
                        returns.len() - 1
                    });
                    *jump = over(length - at - 1 + which);
                }
            }
        }
        code.extend(returns.into_iter().map(|action| Insn::plain(RET, action.0)));
        code
    }

    fn len(&self) -> usize {
        match self {
            Self::Return(_) => 0,
            Self::Code(code) => code.len(),
        }
    }
}

/// Lengths are held below what a jump reaches by [`SHARING`]; a longer one would be caught by the test that
/// interprets every filter, and by the kernel, which refuses a jump out of the program.
fn over(distance: usize) -> Jump {
    Jump::Over(u8::try_from(distance).unwrap_or(u8::MAX))
}

/// The low and the high word of an argument, on a little-endian machine.
const fn arg_words(index: u8) -> (u32, u32) {
    let low = ARGS + 8 * index as u32;
    (low, low + 4)
}

/// `if accumulator <code> k { yes } else { no }`
fn branch(code: u16, k: u32, yes: Node, no: Node) -> Node {
    if yes.len() + no.len() < SHARING {
        let mut out = vec![Insn { code, yes: Jump::Over(0), no: Jump::Over(0), k }];
        let mut ends = [Jump::Over(0); 2];
        // Without a way to return at once, `no` comes next and `yes` behind it.
        for (end, node) in ends.iter_mut().zip([no, yes]) {
            match node {
                Node::Return(action) => *end = Jump::Return(action),
                Node::Code(body) => {
                    *end = over(out.len() - 1);
                    out.extend(body);
                }
            }
        }
        if let Some(first) = out.first_mut() {
            [first.no, first.yes] = ends;
        }
        return Node::Code(out);
    }
    let (yes, no) = (yes.closed(), no.closed());
    let mut out = Vec::with_capacity(yes.len() + no.len() + 2);
    let first = |yes, no| Insn { code, yes, no, k };
    if let Ok(skip) = u8::try_from(no.len()) {
        out.push(first(Jump::Over(skip), Jump::Over(0)));
    } else {
        out.push(first(Jump::Over(0), Jump::Over(1)));
        out.push(Insn::plain(JA, no.len() as u32));
    }
    out.extend(no);
    out.extend(yes);
    Node::Code(out)
}

/// `instructions`, then `node`.
fn after(instructions: &[Insn], node: Node) -> Node {
    let mut code = instructions.to_vec();
    match node {
        Node::Return(_) => return node,
        Node::Code(rest) => code.extend(rest),
    }
    Node::Code(code)
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
fn tree<T>(ranges: &[(u32, T)], leaf: &impl Fn(&T) -> Node) -> Node {
    match ranges {
        [] => Node::Return(Action::KILL_THREAD),
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
    let mut rest = Node::Return(Action::KILL_THREAD);
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
            if let Some(x32) = of(Arch::X32) {
                call_ranges(&mut ranges, policy, x32, X32_BIT);
            } else {
                // As with libseccomp: x32 is another architecture; only -1, a call skipped by a tracer, is not.
                let newest = ranges.last().map(|(_, verdict)| verdict.clone());
                push(&mut ranges, X32_BIT, Verdict::Always(Action::KILL_THREAD));
                push(&mut ranges, u32::MAX, newest.unwrap_or(Verdict::Always(policy.default)));
            }
        }
        let which =
            |number: u32| if native == Arch::X86_64 && number >= X32_BIT { Arch::X32 } else { native };
        rest = branch(JEQ, native.audit(), calls(policy, &ranges, which), rest);
    }
    encode(after(&[Insn::plain(LD_ABS, ARCH)], rest))
}

/// The words of `struct sock_filter`.
fn encode(program: Node) -> Vec<u64> {
    let offset = |jump| match jump {
        Jump::Over(distance) => u64::from(distance),
        // Closed code has none left.
        Jump::Return(_) => u64::from(u8::MAX),
    };
    let word = |insn: Insn| {
        u64::from(insn.code) | offset(insn.yes) << 16 | offset(insn.no) << 24 | u64::from(insn.k) << 32
    };
    program.closed().into_iter().map(word).collect()
}

fn calls(policy: &Policy, ranges: &Ranges<Verdict>, arch: impl Fn(u32) -> Arch) -> Node {
    // A leaf has to know its architecture for the width of arguments.
    let ranges: Vec<_> = ranges.iter().map(|(at, verdict)| (*at, (arch(*at), verdict))).collect();
    after(&[Insn::plain(LD_ABS, NR)], tree(&ranges, &|(arch, verdict)| leaf(policy, *arch, verdict)))
}

fn leaf(policy: &Policy, arch: Arch, verdict: &Verdict) -> Node {
    match verdict {
        Verdict::Always(action) => Node::Return(*action),
        Verdict::When(list) => by_value(policy, arch, list).unwrap_or_else(|| {
            // From the last alternative to the first: each falls through to what follows it.
            list.iter().rev().fold(Node::Return(policy.default), |rest, (conditions, action)| {
                all(arch, conditions, *action, rest)
            })
        }),
    }
}

/// `action` when all conditions hold, else `rest`, which stands once, at the end.
fn all(arch: Arch, conditions: &[Condition], action: Action, rest: Node) -> Node {
    // A jump to a shared return could not cross a long list of alternatives: then this one returns by itself. (Six
    // conditions have at most thirty instructions.)
    let (mut body, rest) = if rest.len() > SHARING - 48 {
        (vec![Insn::plain(RET, action.0)], Node::Code(rest.closed()))
    } else {
        (Vec::new(), rest)
    };
    for condition in conditions.iter().rev() {
        let holds = if body.is_empty() { Some(action) } else { None };
        let mut test = condition_test(arch, *condition, body.len(), holds, &rest);
        test.extend(body);
        body = test;
    }
    if let Node::Code(rest) = rest {
        body.extend(rest);
    }
    Node::Code(body)
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

/// The instructions that test one condition; `behind` are those between the test and `rest`. A condition that
/// holds leads to what is behind, or to a return.
fn condition_test(
    arch: Arch,
    condition: Condition,
    behind: usize,
    holds: Option<Action>,
    rest: &Node,
) -> Vec<Insn> {
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
    let instruction = |(at, (code, yes, no, k)): (usize, (u16, To, To, u32))| {
        let left = length - at - 1;
        let jump = |to| match (to, holds, rest) {
            (Next, ..) => Jump::Over(0),
            (Holds, Some(action), _) => Jump::Return(action),
            (Holds, None, _) => over(left),
            (Fails, _, Node::Return(action)) => Jump::Return(*action),
            (Fails, _, Node::Code(_)) => over(left + behind),
        };
        Insn { code, yes: jump(yes), no: jump(no), k }
    };
    steps.into_iter().enumerate().map(instruction).collect()
}

/// The common case, a list of values of one argument with one action, as a tree over that argument's low word:
/// with socket's address families that is a fifth of the instructions of a test for each.
fn by_value(policy: &Policy, arch: Arch, list: &[(Vec<Condition>, Action)]) -> Option<Node> {
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
    let narrow = after(&[Insn::plain(LD_ABS, low)], tree(&ranges, &|action| Node::Return(*action)));
    if !arch.is_64_bit() {
        return Some(narrow);
    }
    Some(after(&[Insn::plain(LD_ABS, high)], branch(JEQ, 0, narrow, Node::Return(policy.default))))
}
