//! The names of bake files, and what each comes to: worked out when somebody asks, and once.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::eval::{Budget, Evaluator, Fault, Found, Function, Scope, World};
use super::functions::{is_known, unknown};
use super::overridden::overridden;
use super::syntax::{Block, Body, Expr, Kind};
use super::target::{ATTRIBUTES, Target, texts};
use super::types::Type;
use super::value::Value;
use crate::yaml::At;

/// What is being worked out, or was.
#[derive(Clone)]
enum State {
    Begun,
    Done(Found),
}

/// A variable that files have.
pub(crate) struct Defined {
    pub(crate) at: At,
    pub(crate) of: Option<Type>,
    pub(crate) default: Option<Expr>,
    pub(crate) description: String,
    pub(crate) validations: Vec<(Expr, Option<Expr>)>,
}

/// Names that a matrix gives to one of a block's targets.
pub(crate) type Names = Vec<(String, Value)>;

/// A target's block, with the targets that it makes: the name of each, and what the matrix gives to it.
pub(crate) struct Placed {
    pub(crate) block: Block,
    pub(crate) made: Vec<(String, Names)>,
}

/// The files, and what was worked out of them.
pub(crate) struct Program<'a> {
    pub(crate) variables: BTreeMap<String, Defined>,
    attributes: BTreeMap<String, Expr>,
    functions: BTreeMap<String, (At, Rc<Function>)>,
    pub(crate) placed: Vec<Placed>,
    /// Targets and groups have names.
    pub(crate) is_named: bool,
    given: &'a dyn Fn(&str) -> Option<String>,
    fixed: BTreeMap<String, String>,
    values: RefCell<HashMap<String, State>>,
    fields: RefCell<HashMap<(usize, usize, String), State>>,
    budget: Budget,
}

/// Names that are not for variables.
const RESERVED: &[&str] = &["target", "group"];

impl<'a> Program<'a> {
    /// Takes the files apart. `given`: what variables are set to from outside; `fixed`: those that are buildx's own.
    pub(crate) fn of(
        bodies: Vec<Body>,
        given: &'a dyn Fn(&str) -> Option<String>,
        fixed: BTreeMap<String, String>,
    ) -> Result<Self, Fault> {
        let mut all = Self {
            variables: BTreeMap::new(),
            attributes: BTreeMap::new(),
            functions: BTreeMap::new(),
            placed: Vec::new(),
            is_named: false,
            given,
            fixed,
            values: RefCell::default(),
            fields: RefCell::default(),
            budget: Budget::default(),
        };
        for body in bodies {
            for attribute in body.attributes {
                if !all.is_reserved(&attribute.name) {
                    all.attributes.insert(attribute.name, attribute.value);
                }
            }
            for block in body.blocks {
                all.add(block)?;
            }
        }
        all.check_functions()?;
        Ok(all)
    }

    fn is_reserved(&self, name: &str) -> bool {
        RESERVED.contains(&name) || self.fixed.contains_key(name)
    }

    fn add(&mut self, block: Block) -> Result<(), Fault> {
        if !matches!(block.kind.as_str(), "variable" | "function" | "target" | "group") {
            return Ok(());
        }
        let [label] = block.labels.as_slice() else {
            let message = format!("{} takes one name: {} \"name\" {{ … }}", block.kind, block.kind);
            return Err(Fault::new(block.at, message));
        };
        match block.kind.as_str() {
            "variable" if !self.is_reserved(label) => {
                let defined = self.defined(&block)?;
                self.variables.insert(label.clone(), defined);
            }
            "function" if !self.is_reserved(label) => {
                let function = Rc::new(function(&block, label)?);
                self.functions.insert(label.clone(), (block.at, function));
            }
            "target" | "group" => self.placed.push(Placed { block, made: Vec::new() }),
            _ => {}
        }
        Ok(())
    }

    fn defined(&self, block: &Block) -> Result<Defined, Fault> {
        let body = &block.body;
        let of = body.get("type").filter(|of| !of.value.is_null());
        let of = of.map(|of| Type::of(&of.value)).transpose();
        let of = of.map_err(|(expr, message)| Fault::new(expr.at, message))?;
        let mut validations = Vec::new();
        for block in body.blocks.iter().filter(|block| block.kind == "validation") {
            let condition = block.body.get("condition");
            let condition = condition.ok_or_else(|| Fault::new(block.at, "validation has no condition"))?;
            let message = block.body.get("error_message").map(|message| message.value.clone());
            validations.push((condition.value.clone(), message));
        }
        let description = match body.get("description") {
            Some(text) if !text.value.is_null() => self.evaluator().text(&text.value, &Scope::EMPTY)?,
            _ => String::new(),
        };
        let default = body.get("default").map(|default| default.value.clone());
        Ok(Defined { at: block.at, of, default, description, validations })
    }

    pub(crate) fn evaluator(&self) -> Evaluator<'_> {
        Evaluator { world: self }
    }

    /// Refuses functions that come back to themselves, and those that name what is not there.
    fn check_functions(&self) -> Result<(), Fault> {
        let mut done: HashMap<&str, bool> = HashMap::new();
        for name in self.functions.keys() {
            self.check_function(name, &mut done, 0)?;
        }
        Ok(())
    }

    fn check_function<'s>(
        &'s self,
        name: &'s str,
        done: &mut HashMap<&'s str, bool>,
        depth: usize,
    ) -> Result<(), Fault> {
        const DEEPEST: usize = 200;
        let Some((at, function)) = self.functions.get(name) else { return Ok(()) };
        match done.get(name) {
            Some(true) => return Ok(()),
            Some(false) => return Err(Fault::new(*at, format!("function cycle not allowed for {name}"))),
            None if depth > DEEPEST => {
                return Err(Fault::new(
                    *at,
                    format!("more than {DEEPEST} functions call each other one by one"),
                ));
            }
            None => done.insert(name, false),
        };
        let mut names = function.parameters.clone();
        names.extend(function.variadic.clone());
        let (mut calls, mut fault) = (Vec::new(), None);
        function.result.walk(&mut names, &mut |expr, bound| match &expr.kind {
            Kind::Call(call) => match self.functions.get_key_value(&call.name) {
                Some((known, _)) if !is_known(&call.name) => calls.push(known.as_str()),
                _ if is_known(&call.name) => {}
                _ => drop(fault.get_or_insert_with(|| Fault::new(expr.at, unknown(&call.name)))),
            },
            Kind::Name(name) if !bound.contains(name) && !self.is_name(name) => {
                fault.get_or_insert_with(|| Fault::new(expr.at, format!("variable {name:?} does not exist")));
            }
            _ => {}
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        for call in calls {
            self.check_function(call, done, depth + 1)?;
        }
        done.insert(name, true);
        Ok(())
    }

    /// Whether there may be something of this name; words of types are for `convert`.
    fn is_name(&self, name: &str) -> bool {
        self.variables.contains_key(name)
            || self.attributes.contains_key(name)
            || self.is_reserved(name)
            || matches!(name, "string" | "number" | "bool" | "any")
    }

    fn work_out(&self, name: &str) -> Option<Found> {
        if let Some(fixed) = self.fixed.get(name) {
            return Some(Ok(Value::text(fixed.as_str())));
        }
        if let Some(attribute) = self.attributes.get(name) {
            return Some(self.evaluator().value(attribute, &Scope::EMPTY));
        }
        let defined = self.variables.get(name)?;
        Some(self.variable_value(name, defined))
    }

    fn variable_value(&self, name: &str, defined: &Defined) -> Found {
        let fault = |message: String| {
            Fault::new(defined.default.as_ref().map_or(defined.at, |default| default.at), message)
        };
        let default = match &defined.default {
            Some(default) => {
                let value = self.evaluator().value(default, &Scope::EMPTY)?;
                let of = defined.of.as_ref().unwrap_or(&Type::Any);
                Some(of.convert(&value).map_err(|error| {
                    fault(format!("invalid type {of} for variable {name} default value: {error}"))
                })?)
            }
            None => None,
        };
        let is_typed = defined.of.is_some();
        let given = (self.given)(name).map(|text| (text, false));
        // A variable that is itself called so is that one.
        let json_name = format!("{name}_JSON");
        let is_taken = self.variables.contains_key(&json_name) || self.fixed.contains_key(&json_name);
        let as_json = || if is_taken { None } else { (self.given)(&json_name).map(|text| (text, true)) };
        let given = if is_typed { as_json().or(given) } else { given.or_else(as_json) };
        match given {
            Some((text, is_json)) => overridden(name, &text, is_json, defined.of.as_ref(), default.as_ref())
                .map_err(|error| Fault::new(defined.at, error)),
            None => Ok(match default {
                Some(default) => default,
                None if is_typed => Value::Null,
                None => Value::text(""),
            }),
        }
    }

    /// Works out attributes outside of blocks, also those that nothing names.
    pub(crate) fn check_attributes(&self) -> Result<(), Fault> {
        for (name, value) in &self.attributes {
            if let Some(found) = self.variable(name, value.at) {
                found?;
            }
        }
        Ok(())
    }

    /// Says what is wrong with a variable's value, by its own rules.
    pub(crate) fn validate(&self, name: &str) -> Result<(), Fault> {
        let Some(defined) = self.variables.get(name) else { return Ok(()) };
        for (condition, message) in &defined.validations {
            let holds = self.evaluator().value(condition, &Scope::EMPTY)?.to_bool();
            if holds.map_err(|error| Fault::new(condition.at, format!("the condition of {name}: {error}")))? {
                continue;
            }
            let message = match message {
                Some(message) => self.evaluator().text(message, &Scope::EMPTY)?,
                None => "the check failed".to_owned(),
            };
            return Err(Fault::new(condition.at, format!("variable {name} is not valid: {message}")));
        }
        Ok(())
    }

    /// What an attribute of a target says, before it is read as one.
    pub(crate) fn field(&self, place: usize, made: usize, name: &str) -> Option<Found> {
        let placed = self.placed.get(place)?;
        let attribute = placed.block.body.get(name)?;
        let (target, names) = placed.made.get(made)?;
        let key = (place, made, name.to_owned());
        match self.fields.borrow().get(&key) {
            Some(State::Done(found)) => return Some(found.clone()),
            Some(State::Begun) => {
                let message =
                    format!("reference cycle not allowed for {}.{target}.{name}", placed.block.kind);
                return Some(Err(Fault::new(attribute.at, message)));
            }
            None => {}
        }
        self.fields.borrow_mut().insert(key.clone(), State::Begun);
        let found = self.evaluator().value(&attribute.value, &Scope { names, outer: None });
        self.fields.borrow_mut().insert(key, State::Done(found.clone()));
        Some(found)
    }

    /// The target that a block makes, with these attributes of it.
    pub(crate) fn target(&self, place: usize, made: usize, only: Option<&str>) -> Result<Target, Fault> {
        let mut target = Target::default();
        let Some(placed) = self.placed.get(place) else { return Ok(target) };
        if let Some((name, _)) = placed.made.get(made) {
            target.name.clone_from(name);
        }
        for attribute in &placed.block.body.attributes {
            let name = attribute.name.as_str();
            if !ATTRIBUTES.contains(&name) || only.is_some_and(|only| only != name) {
                continue;
            }
            if let Some(found) = self.field(place, made, name) {
                let set = target.set(name, &found?);
                set.map_err(|error| Fault::new(attribute.value.at, format!("{name}: {error}")))?;
            }
        }
        Ok(target)
    }
}

/// Reads a function's block.
fn function(block: &Block, name: &str) -> Result<Function, Fault> {
    let body = &block.body;
    let result = body
        .get("result")
        .ok_or_else(|| Fault::new(block.at, format!("empty result not allowed for {name}")))?;
    let params = body
        .get("params")
        .ok_or_else(|| Fault::new(block.at, format!("empty params not allowed for {name}")))?;
    let word = |expr: &Expr| match expr.keyword() {
        Some(word) => Ok(word.to_owned()),
        None => Err(Fault::new(expr.at, "each parameter is a name")),
    };
    let Kind::List(parameters) = &params.value.kind else {
        return Err(Fault::new(params.at, "params is a list of names"));
    };
    let variadic = body.get("variadic_params").filter(|all| !all.value.is_null());
    Ok(Function {
        parameters: parameters.iter().map(word).collect::<Result<_, _>>()?,
        variadic: variadic.map(|all| word(&all.value)).transpose()?,
        result: result.value.clone(),
    })
}

impl World for Program<'_> {
    fn variable(&self, name: &str, at: At) -> Option<Found> {
        match self.values.borrow().get(name) {
            Some(State::Done(found)) => return Some(found.clone()),
            Some(State::Begun) => {
                return Some(Err(Fault::new(at, format!("variable cycle not allowed for {name}"))));
            }
            None => {}
        }
        if !self.variables.contains_key(name)
            && !self.attributes.contains_key(name)
            && !self.fixed.contains_key(name)
        {
            return None;
        }
        self.values.borrow_mut().insert(name.to_owned(), State::Begun);
        let found = self.work_out(name)?;
        self.values.borrow_mut().insert(name.to_owned(), State::Done(found.clone()));
        Some(found)
    }

    fn block(&self, kind: &str, name: &str, attribute: Option<&str>, at: At) -> Option<Found> {
        if !RESERVED.contains(&kind) {
            return None;
        }
        if !self.is_named {
            return Some(Err(Fault::new(
                at,
                format!("{kind}.{name} cannot be used for what gives targets their names"),
            )));
        }
        Some(self.of_blocks(kind, name, attribute, at))
    }

    fn function(&self, name: &str) -> Option<Rc<Function>> {
        self.functions.get(name).map(|(_, function)| Rc::clone(function))
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Program<'_> {
    fn of_blocks(&self, kind: &str, name: &str, attribute: Option<&str>, at: At) -> Found {
        let mut found = None;
        for (place, placed) in self.placed.iter().enumerate().filter(|(_, placed)| placed.block.kind == kind)
        {
            self.budget.spend(1, at)?;
            for (made, _) in placed.made.iter().enumerate().filter(|(_, (made, _))| made == name) {
                if kind == "group" {
                    found = Some(self.of_group(place, made, attribute)?);
                    continue;
                }
                let target = self.target(place, made, attribute)?;
                let value = target.to_value().map_err(|error| Fault::new(at, error))?;
                let value = match attribute {
                    // The name is none of the attributes in the file.
                    Some(attribute) => {
                        value.as_map().and_then(|all| all.get(attribute)).cloned().unwrap_or(Value::Null)
                    }
                    None => value,
                };
                self.budget.spend(value.weight(), at)?;
                if found.is_none() || !value.is_null() {
                    found = Some(value);
                }
            }
        }
        if let Some(attribute) = attribute.filter(|one| *one != "name" && !ATTRIBUTES.contains(one)) {
            return Err(Fault::new(at, format!("a {kind} has no attribute {attribute:?}")));
        }
        found.ok_or_else(|| Fault::new(at, format!("there is no {kind} {name:?}")))
    }

    fn of_group(&self, place: usize, made: usize, attribute: Option<&str>) -> Found {
        let field = |name: &str| self.field(place, made, name).unwrap_or(Ok(Value::Null));
        if let Some(name) = attribute {
            return field(name);
        }
        let all = BTreeMap::from([
            ("targets".to_owned(), field("targets")?),
            ("description".to_owned(), field("description")?),
        ]);
        Value::map(all).map_err(|error| Fault::new(At::default(), error))
    }

    /// The targets of a group.
    pub(crate) fn group_targets(&self, place: usize) -> Result<Vec<String>, Fault> {
        let Some(placed) = self.placed.get(place) else { return Ok(Vec::new()) };
        let Some(found) = self.field(place, 0, "targets") else {
            return Err(Fault::new(placed.block.at, "a group needs targets"));
        };
        let at = placed.block.body.get("targets").map_or(placed.block.at, |targets| targets.value.at);
        let found = texts(&found?).map_err(|error| Fault::new(at, format!("targets: {error}")))?;
        Ok(found.unwrap_or_default())
    }
}
