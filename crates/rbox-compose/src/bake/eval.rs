//! What expressions come to. All of it is bounded: how deep expressions stand in one another, how much is done, how large a value is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::functions;
use super::syntax::{Call, Expr, For, Kind, Loop, Operator, Part, Step};
use super::types::Type;
use super::value::{MOST, TOO_LARGE, Value};
use crate::yaml::At;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: At,
    pub(crate) message: String,
    /// It is not for `try` and `can`: there is no going on.
    pub(crate) is_final: bool,
}

impl Fault {
    pub(crate) fn new(at: At, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), is_final: false }
    }
}

impl From<(At, String)> for Fault {
    fn from((at, message): (At, String)) -> Self {
        Self::new(at, message)
    }
}

pub(crate) type Found = Result<Value, Fault>;

/// A function of the files.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) parameters: Vec<String>,
    pub(crate) variadic: Option<String>,
    pub(crate) result: Expr,
}

/// What names mean outside of the expression.
pub(crate) trait World {
    /// A variable. None: there is none of this name.
    fn variable(&self, name: &str, at: At) -> Option<Found>;
    /// An attribute of a block of the files, or all of it: `target.app.args`. None: this is no kind of block.
    fn block(&self, kind: &str, name: &str, attribute: Option<&str>, at: At) -> Option<Found>;
    /// A function of the files.
    fn function(&self, name: &str) -> Option<Rc<Function>>;
    /// How much is left.
    fn budget(&self) -> &Budget;
}

/// How much may still be done.
#[derive(Debug)]
pub(crate) struct Budget {
    work: Cell<usize>,
    depth: Cell<u32>,
}

/// What all expressions of the files together may do: steps, and bytes of what they make.
const WORK: usize = 20 << 20;
/// Expressions in one another, through variables and functions.
const DEEPEST: u32 = 400;

impl Default for Budget {
    fn default() -> Self {
        Self { work: Cell::new(WORK), depth: Cell::new(0) }
    }
}

impl Budget {
    /// Takes so much.
    pub(crate) fn spend(&self, amount: usize, at: At) -> Result<(), Fault> {
        match self.work.get().checked_sub(amount) {
            Some(left) => {
                self.work.set(left);
                Ok(())
            }
            None => Err(Fault {
                at,
                message: "the files take too much to work out: variables, loops and functions go on and on"
                    .to_owned(),
                is_final: true,
            }),
        }
    }

    /// Does something one level deeper.
    fn deeper(&self, at: At, what: impl FnOnce() -> Found) -> Found {
        let depth = self.depth.get();
        if depth >= DEEPEST {
            let message = format!("more than {DEEPEST} expressions are in one another here");
            return Err(Fault { at, message, is_final: true });
        }
        self.depth.set(depth + 1);
        let found = what();
        self.depth.set(depth);
        found
    }
}

/// Names that loops, parameters and matrices give.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) names: &'a [(String, Value)],
    pub(crate) outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    pub(crate) const EMPTY: Scope<'static> = Scope { names: &[], outer: None };

    fn get(&self, name: &str) -> Option<&Value> {
        let own = self.names.iter().find(|(own, _)| own == name).map(|(_, value)| value);
        own.or_else(|| self.outer.and_then(|outer| outer.get(name)))
    }
}

/// What works expressions out.
#[derive(Clone, Copy)]
pub(crate) struct Evaluator<'a> {
    pub(crate) world: &'a dyn World,
}

impl Evaluator<'_> {
    /// The value of an expression.
    pub(crate) fn value(&self, expr: &Expr, scope: &Scope<'_>) -> Found {
        let budget = self.world.budget();
        budget.spend(1, expr.at)?;
        budget.deeper(expr.at, || self.kind(expr, scope))
    }

    fn kind(&self, expr: &Expr, scope: &Scope<'_>) -> Found {
        let at = expr.at;
        let fault = |message: String| Fault::new(at, message);
        match &expr.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Template(parts) => {
                let mut text = String::new();
                self.parts(parts, scope, &mut text)?;
                self.world.budget().spend(text.len(), at)?;
                Ok(Value::text(text))
            }
            Kind::Wrapped(inner) => self.value(inner, scope),
            Kind::List(items) => {
                let items = items.iter().map(|item| self.value(item, scope)).collect::<Result<_, _>>()?;
                Value::list(items).map_err(fault)
            }
            Kind::Object(items) => {
                let item =
                    |(key, item): &(Expr, Expr)| Ok((self.text(key, scope)?, self.value(item, scope)?));
                Value::map(items.iter().map(item).collect::<Result<_, Fault>>()?).map_err(fault)
            }
            Kind::Name(name) => self.name(name, at, scope),
            Kind::Traversal(from, steps) => self.traversal(from, steps, scope),
            Kind::Not(inner) => {
                let truth =
                    self.value(inner, scope)?.to_bool().map_err(|error| Fault::new(inner.at, error))?;
                Ok(Value::Bool(!truth))
            }
            Kind::Negate(inner) => {
                let number = self.value(inner, scope)?.to_number();
                let number = number.map_err(|error| Fault::new(inner.at, error))?;
                Ok(Value::Number(number.negated().map_err(fault)?))
            }
            Kind::Binary(operator, left, right) => self.binary(*operator, left, right, scope),
            Kind::If(condition, yes, no) => self.conditional((condition, yes, no), scope),
            Kind::Call(call) => self.call(call, at, scope),
            Kind::For(all) => self.for_each(all, at, scope),
        }
    }

    /// The value as a text.
    pub(crate) fn text(&self, expr: &Expr, scope: &Scope<'_>) -> Result<String, Fault> {
        let value = self.value(expr, scope)?;
        value.to_text().map(|text| text.to_string()).map_err(|error| Fault::new(expr.at, error))
    }

    fn truth(&self, expr: &Expr, scope: &Scope<'_>) -> Result<bool, Fault> {
        self.value(expr, scope)?
            .to_bool()
            .map_err(|error| Fault::new(expr.at, format!("the condition: {error}")))
    }

    fn name(&self, name: &str, at: At, scope: &Scope<'_>) -> Found {
        if let Some(value) = scope.get(name) {
            return Ok(value.clone());
        }
        if let Some(found) = self.world.variable(name, at) {
            return found;
        }
        if matches!(name, "target" | "group") {
            return Err(Fault::new(
                at,
                format!("cannot access {name} as a variable: {name}.NAME.ATTRIBUTE is one"),
            ));
        }
        Err(Fault::new(at, format!("variable {name:?} does not exist")))
    }

    fn parts(&self, parts: &[Part], scope: &Scope<'_>, to: &mut String) -> Result<(), Fault> {
        for part in parts {
            match part {
                Part::Text(text) => to.push_str(text),
                Part::Value(expr) => {
                    let value = self.value(expr, scope)?;
                    if value.is_null() {
                        let message = "the expression is null, which cannot be in a text";
                        return Err(Fault::new(expr.at, message));
                    }
                    let text = value
                        .to_text()
                        .map_err(|error| Fault::new(expr.at, format!("in a text: {error}")))?;
                    to.push_str(&text);
                }
                Part::If(condition, yes, no) => {
                    self.world.budget().spend(1, condition.at)?;
                    let parts = if self.truth(condition, scope)? { yes } else { no };
                    self.parts(parts, scope, to)?;
                }
                Part::For(all) => self.part_for_each(all, scope, to)?,
            }
            if to.len() > MOST {
                let at = match part {
                    Part::Value(expr) | Part::If(expr, ..) => expr.at,
                    Part::For(all) => all.collection.at,
                    Part::Text(_) => At::default(),
                };
                return Err(Fault { at, message: TOO_LARGE.to_owned(), is_final: true });
            }
        }
        Ok(())
    }

    fn part_for_each(&self, all: &Loop, scope: &Scope<'_>, to: &mut String) -> Result<(), Fault> {
        let collection = self.value(&all.collection, scope)?;
        for (key, value) in pairs(&collection).map_err(|error| Fault::new(all.collection.at, error))? {
            self.world.budget().spend(1, all.collection.at)?;
            let names = named((&all.key, &all.value), key, value);
            self.parts(&all.parts, &Scope { names: &names, outer: Some(scope) }, to)?;
        }
        Ok(())
    }

    fn binary(&self, operator: Operator, left: &Expr, right: &Expr, scope: &Scope<'_>) -> Found {
        let (one, other) = (self.value(left, scope)?, self.value(right, scope)?);
        let truths = || -> Result<(bool, bool), Fault> {
            Ok((
                one.to_bool().map_err(|error| Fault::new(left.at, error))?,
                other.to_bool().map_err(|error| Fault::new(right.at, error))?,
            ))
        };
        match operator {
            Operator::Equal | Operator::NotEqual => {
                self.world.budget().spend(one.weight().min(other.weight()), left.at)?;
                return Ok(Value::Bool((one == other) == (operator == Operator::Equal)));
            }
            Operator::And => return truths().map(|(left, right)| Value::Bool(left && right)),
            Operator::Or => return truths().map(|(left, right)| Value::Bool(left || right)),
            _ => {}
        }
        let first = one.to_number().map_err(|error| Fault::new(left.at, error))?;
        let second = other.to_number().map_err(|error| Fault::new(right.at, error))?;
        let number = match operator {
            Operator::Less => return Ok(Value::Bool(first < second)),
            Operator::LessEqual => return Ok(Value::Bool(first <= second)),
            Operator::Greater => return Ok(Value::Bool(first > second)),
            Operator::GreaterEqual => return Ok(Value::Bool(first >= second)),
            Operator::Plus => first.plus(second),
            Operator::Minus => first.minus(second),
            Operator::Times => first.times(second),
            Operator::Over => first.over(second),
            _ => first.rest(second),
        };
        number.map(Value::Number).map_err(|error| Fault::new(left.at, error))
    }

    fn conditional(&self, (condition, yes, no): (&Expr, &Expr, &Expr), scope: &Scope<'_>) -> Found {
        let holds = self.truth(condition, scope)?;
        let (chosen, other) = if holds { (yes, no) } else { (no, yes) };
        let value = self.value(chosen, scope)?;
        // Both have one type, so the other one counts: what is wrong in it does not.
        let other = match self.value(other, scope) {
            Err(fault) if fault.is_final => return Err(fault),
            Err(_) => return Ok(value),
            Ok(other) => other,
        };
        if value.is_null() || other.is_null() || value.kind() == other.kind() {
            return Ok(value);
        }
        if value.is_primitive() && other.is_primitive() {
            return value.to_text().map(Value::Text).map_err(|error| Fault::new(chosen.at, error));
        }
        let message = format!(
            "the true and the false result of a condition have one type: these are {} and {}",
            if holds { value.kind() } else { other.kind() },
            if holds { other.kind() } else { value.kind() },
        );
        Err(Fault::new(condition.at, message))
    }

    fn for_each(&self, all: &For, at: At, scope: &Scope<'_>) -> Found {
        let collection = self.value(&all.collection, scope)?;
        let pairs = pairs(&collection).map_err(|error| Fault::new(all.collection.at, error))?;
        let (mut items, mut fields) = (Vec::new(), BTreeMap::<String, Vec<Value>>::new());
        for (key, value) in pairs {
            let names = named((&all.key, &all.value), key, value);
            let inner = Scope { names: &names, outer: Some(scope) };
            if let Some(condition) = &all.condition
                && !self.truth(condition, &inner)?
            {
                continue;
            }
            let result = self.value(&all.result, &inner)?;
            self.world.budget().spend(result.weight(), at)?;
            let Some(key) = &all.result_key else {
                items.push(result);
                continue;
            };
            let name = self.text(key, &inner)?;
            let same = fields.entry(name.clone()).or_default();
            if !same.is_empty() && !all.grouping {
                return Err(Fault::new(
                    key.at,
                    format!("two elements have the key {name:?}: ... after the result groups them"),
                ));
            }
            same.push(result);
        }
        let made = if all.result_key.is_none() {
            Value::list(items)
        } else if all.grouping {
            fields
                .into_iter()
                .map(|(key, items)| Ok((key, Value::list(items)?)))
                .collect::<Result<_, _>>()
                .and_then(Value::map)
        } else {
            Value::map(fields.into_iter().filter_map(|(key, mut items)| Some((key, items.pop()?))).collect())
        };
        made.map_err(|error| Fault::new(at, error))
    }

    fn traversal(&self, from: &Expr, steps: &[Step], scope: &Scope<'_>) -> Found {
        if let Kind::Name(kind) = &from.kind
            && scope.get(kind).is_none()
            && let Some((value, rest)) = self.of_block(kind, from.at, steps, scope)
        {
            return self.steps(value?, rest, from.at, scope);
        }
        let value = self.value(from, scope)?;
        self.steps(value, steps, from.at, scope)
    }

    /// `target.NAME.ATTRIBUTE`, and the steps after it.
    fn of_block<'s>(
        &self,
        kind: &str,
        at: At,
        steps: &'s [Step],
        scope: &Scope<'_>,
    ) -> Option<(Found, &'s [Step])> {
        let name_of = |step: &Step| match step {
            Step::Attribute(name) => Some(name.clone()),
            Step::Index(index) => self.text(index, scope).ok(),
            _ => None,
        };
        let name = name_of(steps.first()?)?;
        let attribute = steps.get(1).and_then(name_of);
        let rest = steps.get(1 + usize::from(attribute.is_some())..)?;
        Some((self.world.block(kind, &name, attribute.as_deref(), at)?, rest))
    }

    fn steps(&self, mut value: Value, steps: &[Step], at: At, scope: &Scope<'_>) -> Found {
        for (place, step) in steps.iter().enumerate() {
            let after = steps.get(place + 1..).unwrap_or_default();
            value = match step {
                Step::Attribute(name) => attribute(&value, name).map_err(|error| Fault::new(at, error))?,
                Step::Index(index) => {
                    let key = self.value(index, scope)?;
                    functions::index(&value, &key).map_err(|error| Fault::new(index.at, error))?
                }
                Step::Each | Step::EachWhole => {
                    let is_whole = matches!(step, Step::EachWhole);
                    let count = after
                        .iter()
                        .take_while(|step| is_whole || matches!(step, Step::Attribute(_)))
                        .count();
                    let (of_each, rest) = after.split_at(count);
                    let items = match value {
                        Value::Null => Vec::new(),
                        Value::List(nest) => nest.items.clone(),
                        one => vec![one],
                    };
                    self.world.budget().spend(items.len(), at)?;
                    let each = items.into_iter().map(|one| self.steps(one, of_each, at, scope));
                    let all = Value::list(each.collect::<Result<_, _>>()?)
                        .map_err(|error| Fault::new(at, error))?;
                    return self.steps(all, rest, at, scope);
                }
            };
        }
        Ok(value)
    }

    fn call(&self, call: &Call, at: At, scope: &Scope<'_>) -> Found {
        match (call.name.as_str(), call.arguments.as_slice()) {
            ("try", [_, ..]) => return self.first(&call.arguments, at, scope),
            ("can", [one]) => {
                return match self.value(one, scope) {
                    Err(fault) if fault.is_final => Err(fault),
                    found => Ok(Value::Bool(found.is_ok())),
                };
            }
            ("convert", [one, of]) => {
                let of = Type::of(of).map_err(|(expr, message)| Fault::new(expr.at, message))?;
                return of.convert(&self.value(one, scope)?).map_err(|error| Fault::new(at, error));
            }
            _ => {}
        }
        let arguments = self.arguments(call, scope)?;
        let weight: usize = arguments.iter().map(Value::weight).sum();
        self.world.budget().spend(weight, at)?;
        let value = match functions::call(&call.name, &arguments) {
            Some(found) => found.map_err(|error| Fault::new(at, format!("{}: {error}", call.name)))?,
            None => match self.world.function(&call.name) {
                Some(function) => self.own_function(&call.name, &function, arguments, at)?,
                None => return Err(Fault::new(at, functions::unknown(&call.name))),
            },
        };
        self.world.budget().spend(value.weight(), at)?;
        Ok(value)
    }

    fn arguments(&self, call: &Call, scope: &Scope<'_>) -> Result<Vec<Value>, Fault> {
        let mut all: Vec<Value> =
            call.arguments.iter().map(|one| self.value(one, scope)).collect::<Result<_, _>>()?;
        if call.expand
            && let (Some(last), Some(expr)) = (all.pop(), call.arguments.last())
        {
            let items = last.as_list().ok_or_else(|| {
                Fault::new(expr.at, format!("a list is required before ..., not {}", last.kind()))
            })?;
            all.extend(items.iter().cloned());
        }
        Ok(all)
    }

    fn first(&self, expressions: &[Expr], at: At, scope: &Scope<'_>) -> Found {
        let mut messages = Vec::new();
        for expr in expressions {
            match self.value(expr, scope) {
                Err(fault) if !fault.is_final => messages.push(fault.message),
                found => return found,
            }
        }
        messages.dedup();
        Err(Fault::new(at, format!("try: no expression has a value: {}", messages.join("; "))))
    }

    fn own_function(&self, name: &str, function: &Function, arguments: Vec<Value>, at: At) -> Found {
        let count = function.parameters.len();
        if arguments.len() < count || (arguments.len() > count && function.variadic.is_none()) {
            let takes = if function.variadic.is_some() {
                format!("{count} arguments or more")
            } else {
                format!("{count} arguments")
            };
            return Err(Fault::new(at, format!("function {name:?} takes {takes}, not {}", arguments.len())));
        }
        let mut arguments = arguments.into_iter();
        let mut names: Vec<(String, Value)> =
            function.parameters.iter().cloned().zip(arguments.by_ref()).collect();
        if let Some(variadic) = &function.variadic {
            let rest = Value::list(arguments.collect()).map_err(|error| Fault::new(at, error))?;
            names.push((variadic.clone(), rest));
        }
        self.value(&function.result, &Scope { names: &names, outer: None })
    }
}

/// The elements of a collection with their keys.
fn pairs(collection: &Value) -> Result<Vec<(Value, Value)>, String> {
    match collection {
        Value::List(nest) => Ok(nest
            .items
            .iter()
            .enumerate()
            .map(|(place, one)| (Value::int(place as i64), one.clone()))
            .collect()),
        Value::Map(nest) => {
            Ok(nest.items.iter().map(|(key, one)| (Value::text(key.as_str()), one.clone())).collect())
        }
        other => Err(format!("for takes a list or an object, not {}", other.kind())),
    }
}

fn named((key_name, value_name): (&Option<String>, &str), key: Value, value: Value) -> Vec<(String, Value)> {
    let mut names = vec![(value_name.to_owned(), value)];
    names.extend(key_name.clone().map(|name| (name, key)));
    names
}

fn attribute(value: &Value, name: &str) -> Result<Value, String> {
    match value {
        Value::Map(nest) => nest
            .items
            .get(name)
            .cloned()
            .ok_or_else(|| format!("there is no attribute {name:?} in this object")),
        Value::Null => Err(format!("the value is null: it has no attribute {name:?}")),
        other => Err(format!("a {} has no attributes: {name:?} is one of an object", other.kind())),
    }
}
