//! What a bake file says, whether it is HCL or JSON: blocks, attributes and expressions, each with its place.

use crate::yaml::At;

use super::value::Value;

/// What is between the braces of a block, or in a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) blocks: Vec<Block>,
}

impl Body {
    /// The attribute of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

/// `name = value`.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) at: At,
    pub(crate) value: Expr,
}

/// `kind "label" { … }`.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) kind: String,
    pub(crate) labels: Vec<String>,
    pub(crate) at: At,
    pub(crate) body: Body,
}

/// An expression.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) at: At,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Value),
    /// `"a${b}c"`.
    Template(Vec<Part>),
    /// Parentheses, or `"${b}"`: the value as it is.
    Wrapped(Box<Expr>),
    List(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    Name(String),
    /// `a.b[c].*.d`.
    Traversal(Box<Expr>, Vec<Step>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Call(Call),
    For(Box<For>),
}

/// `name(arguments)`; with `expand`, the last one is a list of more.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: Vec<Expr>,
    pub(crate) expand: bool,
}

/// A piece of a template.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Text(String),
    Value(Expr),
    If(Expr, Vec<Part>, Vec<Part>),
    For(Box<Loop>),
}

/// `%{ for key, value in collection }…%{ endfor }`.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    pub(crate) key: Option<String>,
    pub(crate) value: String,
    pub(crate) collection: Expr,
    pub(crate) parts: Vec<Part>,
}

/// `[for key, value in collection: result if condition]`, or with braces and a key of the result.
#[derive(Clone, Debug)]
pub(crate) struct For {
    pub(crate) key: Option<String>,
    pub(crate) value: String,
    pub(crate) collection: Expr,
    pub(crate) result_key: Option<Expr>,
    pub(crate) result: Expr,
    pub(crate) grouping: bool,
    pub(crate) condition: Option<Expr>,
}

/// A step of a traversal.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Attribute(String),
    Index(Expr),
    /// `.*`: attributes that follow are those of each element.
    Each,
    /// `[*]`: all that follows is of each element.
    EachWhole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Plus,
    Minus,
    Times,
    Over,
    Rest,
    And,
    Or,
}

impl Expr {
    /// The word that stands here alone, as names of parameters and of types do.
    pub(crate) fn keyword(&self) -> Option<&str> {
        match &self.kind {
            Kind::Name(name) => Some(name),
            // As JSON has it.
            Kind::Literal(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub(crate) const fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Literal(Value::Null))
    }

    /// Calls `see` with each name and each call of a function in it; `bound` are the names that loops around them give.
    pub(crate) fn walk(&self, bound: &mut Vec<String>, see: &mut dyn FnMut(&Self, &[String])) {
        see(self, bound);
        match &self.kind {
            Kind::Literal(_) | Kind::Name(_) => {}
            Kind::Template(parts) => walk_parts(parts, bound, see),
            Kind::Wrapped(one) | Kind::Not(one) | Kind::Negate(one) => one.walk(bound, see),
            Kind::List(items) => items.iter().for_each(|one| one.walk(bound, see)),
            Kind::Object(items) => items.iter().for_each(|(key, one)| {
                key.walk(bound, see);
                one.walk(bound, see);
            }),
            Kind::Traversal(from, steps) => {
                from.walk(bound, see);
                for step in steps {
                    if let Step::Index(index) = step {
                        index.walk(bound, see);
                    }
                }
            }
            Kind::Binary(_, left, right) => {
                left.walk(bound, see);
                right.walk(bound, see);
            }
            Kind::If(condition, yes, no) => {
                for one in [condition, yes, no] {
                    one.walk(bound, see);
                }
            }
            Kind::Call(call) => call.arguments.iter().for_each(|one| one.walk(bound, see)),
            Kind::For(all) => {
                all.collection.walk(bound, see);
                let before = bound.len();
                bound.extend(all.key.clone().into_iter().chain([all.value.clone()]));
                let inner = all.result_key.iter().chain([&all.result]).chain(&all.condition);
                inner.for_each(|one| one.walk(bound, see));
                bound.truncate(before);
            }
        }
    }
}

fn walk_parts(parts: &[Part], bound: &mut Vec<String>, see: &mut dyn FnMut(&Expr, &[String])) {
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::Value(one) => one.walk(bound, see),
            Part::If(condition, yes, no) => {
                condition.walk(bound, see);
                walk_parts(yes, bound, see);
                walk_parts(no, bound, see);
            }
            Part::For(all) => {
                all.collection.walk(bound, see);
                let before = bound.len();
                bound.extend(all.key.clone().into_iter().chain([all.value.clone()]));
                walk_parts(&all.parts, bound, see);
                bound.truncate(before);
            }
        }
    }
}
