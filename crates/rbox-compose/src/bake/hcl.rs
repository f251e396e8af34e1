//! HCL to what it says. The crate `hcl-edit` reads it, and keeps the places.

use std::ops::Range;

use hcl_edit::Span as _;
use hcl_edit::expr::{BinaryOperator, Expression, FuncCall, ObjectKey, TraversalOperator, UnaryOperator};
use hcl_edit::structure::{Body as HclBody, Structure};
use hcl_edit::template::{Directive, Element, Strip, Template};

use super::number::Number;
use super::syntax::{Attribute, Block, Body, Call, Expr, For, Kind, Loop, Operator, Part, Step};
use super::value::Value;
use crate::yaml::At;

/// What is wrong, and where.
pub(crate) type Fault = (At, String);

/// Reads a file, which is the one of this number.
pub(crate) fn read(text: &str, file: u32) -> Result<Body, Fault> {
    let lines = Lines::of(text, file);
    let body = hcl_edit::parser::parse_body(text).map_err(|error| {
        let at = lines.at(error.location().offset());
        (at, one_line(error.message()))
    })?;
    lines.body(&body)
}

/// Reads the text of a JSON file as the template that it is there.
pub(crate) fn template(text: &str, at: At) -> Result<Expr, Fault> {
    if !text.contains("${") && !text.contains("%{") {
        return Ok(Expr { at, kind: Kind::Literal(Value::text(text)) });
    }
    let template = hcl_edit::parser::parse_template(text).map_err(|error| (at, one_line(error.message())))?;
    let lines = Lines { file: at.file, begins: Vec::new(), fixed: Some(at) };
    lines.template(&template, at)
}

/// Reads an expression that stands in a text, as types do in JSON.
pub(crate) fn expression(text: &str, at: At) -> Result<Expr, Fault> {
    let found = hcl_edit::parser::parse_expr(text).map_err(|error| (at, one_line(error.message())))?;
    Lines { file: at.file, begins: Vec::new(), fixed: Some(at) }.expr(&found)
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Where lines begin.
pub(crate) struct Lines {
    file: u32,
    begins: Vec<usize>,
    /// All is at this place.
    fixed: Option<At>,
}

impl Lines {
    pub(crate) fn of(text: &str, file: u32) -> Self {
        let begins = std::iter::once(0).chain(text.match_indices('\n').map(|(place, _)| place + 1)).collect();
        Self { file, begins, fixed: None }
    }

    /// The line and the column, in bytes from 1, of what is so many bytes from the start.
    pub(crate) fn at(&self, offset: usize) -> At {
        if let Some(at) = self.fixed {
            return at;
        }
        let line = self.begins.partition_point(|begin| *begin <= offset).max(1);
        let begin = self.begins.get(line - 1).copied().unwrap_or_default();
        At { file: self.file, line: line as u32, column: (offset - begin + 1) as u32 }
    }

    fn of_span(&self, span: Option<Range<usize>>, otherwise: At) -> At {
        span.map_or(otherwise, |span| self.at(span.start))
    }

    fn body(&self, body: &HclBody) -> Result<Body, Fault> {
        let mut all = Body::default();
        for structure in body {
            let at = self.of_span(structure.span(), At { file: self.file, line: 1, column: 1 });
            match structure {
                Structure::Attribute(found) => {
                    let at = self.of_span(found.key.span(), at);
                    let name = found.key.to_string();
                    if all.get(&name).is_some() {
                        return Err((at, format!("attribute {name:?} is set twice")));
                    }
                    all.attributes.push(Attribute { name, at, value: self.expr(&found.value)? });
                }
                Structure::Block(found) => {
                    let at = self.of_span(found.ident.span(), at);
                    let labels = found.labels.iter().map(|label| label.as_str().to_owned()).collect();
                    let body = self.body(&found.body)?;
                    all.blocks.push(Block { kind: found.ident.to_string(), labels, at, body });
                }
            }
        }
        Ok(all)
    }

    fn boxed(&self, found: &Expression) -> Result<Box<Expr>, Fault> {
        Ok(Box::new(self.expr(found)?))
    }

    fn all<'a>(&self, found: impl IntoIterator<Item = &'a Expression>) -> Result<Vec<Expr>, Fault> {
        found.into_iter().map(|one| self.expr(one)).collect()
    }

    fn expr(&self, found: &Expression) -> Result<Expr, Fault> {
        let at = self.of_span(found.span(), At { file: self.file, line: 0, column: 0 });
        let kind = match found {
            Expression::Null(_) => Kind::Literal(Value::Null),
            Expression::Bool(truth) => Kind::Literal(Value::Bool(*truth.value())),
            Expression::Number(number) => {
                let written = number.as_repr().map(|text| text.replace(|one: char| one.is_whitespace(), ""));
                let text = written.unwrap_or_else(|| number.value().to_string());
                let number = Number::parse(&text).ok_or_else(|| (at, format!("{text:?} is no number")))?;
                Kind::Literal(Value::Number(number))
            }
            Expression::String(text) => Kind::Literal(Value::text(text.value().as_str())),
            Expression::Array(array) => Kind::List(self.all(array.iter())?),
            Expression::Object(object) => {
                let item = |(key, value): (&ObjectKey, &hcl_edit::expr::ObjectValue)| {
                    Ok((self.key(key, at)?, self.expr(value.expr())?))
                };
                Kind::Object(object.iter().map(item).collect::<Result<_, Fault>>()?)
            }
            Expression::StringTemplate(template) => return self.template(template, at),
            Expression::HeredocTemplate(heredoc) => return self.template(&heredoc.template, at),
            Expression::Parenthesis(inner) => Kind::Wrapped(self.boxed(inner.inner())?),
            Expression::Variable(name) => Kind::Name(name.to_string()),
            Expression::Conditional(all) => Kind::If(
                self.boxed(&all.cond_expr)?,
                self.boxed(&all.true_expr)?,
                self.boxed(&all.false_expr)?,
            ),
            Expression::FuncCall(call) => self.call(call)?,
            Expression::Traversal(all) => {
                let steps = all.operators.iter().map(|step| self.step(step.value(), at));
                Kind::Traversal(self.boxed(&all.expr)?, steps.collect::<Result<_, Fault>>()?)
            }
            Expression::UnaryOp(all) => match all.operator.value() {
                UnaryOperator::Not => Kind::Not(self.boxed(&all.expr)?),
                UnaryOperator::Neg => Kind::Negate(self.boxed(&all.expr)?),
            },
            Expression::BinaryOp(all) => {
                let operator = operator(*all.operator.value());
                Kind::Binary(operator, self.boxed(&all.lhs_expr)?, self.boxed(&all.rhs_expr)?)
            }
            Expression::ForExpr(all) => self.for_expr(all)?,
        };
        Ok(Expr { at, kind })
    }

    fn key(&self, key: &ObjectKey, at: At) -> Result<Expr, Fault> {
        match key {
            ObjectKey::Ident(name) => {
                let at = self.of_span(name.span(), at);
                Ok(Expr { at, kind: Kind::Literal(Value::text(name.to_string())) })
            }
            ObjectKey::Expression(found) => self.expr(found),
        }
    }

    fn call(&self, call: &FuncCall) -> Result<Kind, Fault> {
        let parts = call.name.namespace.iter().chain([&call.name.name]);
        let name = parts.map(|part| part.as_str()).collect::<Vec<_>>().join("::");
        Ok(Kind::Call(Call {
            name,
            arguments: self.all(call.args.iter())?,
            expand: call.args.expand_final(),
        }))
    }

    fn for_expr(&self, all: &hcl_edit::expr::ForExpr) -> Result<Kind, Fault> {
        Ok(Kind::For(Box::new(For {
            key: all.intro.key_var.as_ref().map(ToString::to_string),
            value: all.intro.value_var.to_string(),
            collection: self.expr(&all.intro.collection_expr)?,
            result_key: all.key_expr.as_ref().map(|key| self.expr(key)).transpose()?,
            result: self.expr(&all.value_expr)?,
            grouping: all.grouping,
            condition: all.cond.as_ref().map(|condition| self.expr(&condition.expr)).transpose()?,
        })))
    }

    fn step(&self, step: &TraversalOperator, at: At) -> Result<Step, Fault> {
        Ok(match step {
            TraversalOperator::AttrSplat(_) => Step::Each,
            TraversalOperator::FullSplat(_) => Step::EachWhole,
            TraversalOperator::GetAttr(name) => Step::Attribute(name.to_string()),
            TraversalOperator::Index(index) => Step::Index(self.expr(index)?),
            TraversalOperator::LegacyIndex(index) => {
                Step::Index(Expr { at, kind: Kind::Literal(Value::int(*index.value())) })
            }
        })
    }

    fn template(&self, template: &Template, at: At) -> Result<Expr, Fault> {
        if let Some(Element::Interpolation(one)) = template.as_single_element() {
            return Ok(Expr { at, kind: Kind::Wrapped(self.boxed(&one.expr)?) });
        }
        Ok(Expr { at, kind: Kind::Template(self.parts(template, (false, false))?) })
    }

    /// The parts of a template. `outer`: whether spaces at its start and at its end are left out.
    fn parts(&self, template: &Template, outer: (bool, bool)) -> Result<Vec<Part>, Fault> {
        let elements: Vec<&Element> = template.iter().collect();
        let mut parts = Vec::with_capacity(elements.len());
        for (place, element) in elements.iter().enumerate() {
            let part = match element {
                Element::Literal(text) => {
                    let before = place.checked_sub(1).and_then(|before| elements.get(before));
                    let strip_start = before.map_or(outer.0, |one| strips(one).1);
                    let strip_end = elements.get(place + 1).map_or(outer.1, |one| strips(one).0);
                    let mut text = text.as_str();
                    if strip_start {
                        text = text.trim_start();
                    }
                    if strip_end {
                        text = text.trim_end();
                    }
                    Part::Text(text.to_owned())
                }
                Element::Interpolation(one) => Part::Value(self.expr(&one.expr)?),
                Element::Directive(directive) => self.directive(directive)?,
            };
            parts.push(part);
        }
        Ok(parts)
    }

    fn directive(&self, directive: &Directive) -> Result<Part, Fault> {
        Ok(match directive {
            Directive::If(all) => {
                let condition = self.expr(&all.if_expr.cond_expr)?;
                let end = start_of(all.endif_expr.strip);
                let middle = all.else_expr.as_ref().map(|other| other.strip);
                let yes = (end_of(all.if_expr.strip), middle.map_or(end, start_of));
                let yes = self.parts(&all.if_expr.template, yes)?;
                let no = match &all.else_expr {
                    Some(other) => self.parts(&other.template, (end_of(other.strip), end))?,
                    None => Vec::new(),
                };
                Part::If(condition, yes, no)
            }
            Directive::For(all) => {
                let outer = (end_of(all.for_expr.strip), start_of(all.endfor_expr.strip));
                Part::For(Box::new(Loop {
                    key: all.for_expr.key_var.as_ref().map(ToString::to_string),
                    value: all.for_expr.value_var.to_string(),
                    collection: self.expr(&all.for_expr.collection_expr)?,
                    parts: self.parts(&all.for_expr.template, outer)?,
                }))
            }
        })
    }
}

const fn start_of(strip: Strip) -> bool {
    matches!(strip, Strip::Start | Strip::Both)
}

const fn end_of(strip: Strip) -> bool {
    matches!(strip, Strip::End | Strip::Both)
}

/// Whether an element leaves out the spaces before it and after it.
const fn strips(element: &Element) -> (bool, bool) {
    match element {
        Element::Literal(_) => (false, false),
        Element::Interpolation(one) => (start_of(one.strip), end_of(one.strip)),
        Element::Directive(one) => match &**one {
            Directive::If(all) => (start_of(all.if_expr.strip), end_of(all.endif_expr.strip)),
            Directive::For(all) => (start_of(all.for_expr.strip), end_of(all.endfor_expr.strip)),
        },
    }
}

const fn operator(operator: BinaryOperator) -> Operator {
    match operator {
        BinaryOperator::Eq => Operator::Equal,
        BinaryOperator::NotEq => Operator::NotEqual,
        BinaryOperator::LessEq => Operator::LessEqual,
        BinaryOperator::GreaterEq => Operator::GreaterEqual,
        BinaryOperator::Less => Operator::Less,
        BinaryOperator::Greater => Operator::Greater,
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Mul => Operator::Times,
        BinaryOperator::Div => Operator::Over,
        BinaryOperator::Mod => Operator::Rest,
        BinaryOperator::And => Operator::And,
        BinaryOperator::Or => Operator::Or,
    }
}
