//! Numbers and truths.

use super::super::number::Number;
use super::super::value::Value;
use super::given::{ANY, Entry, Given, Outcome};

pub(super) const ALL: &[Entry] = &[
    Entry("absolute", 1, 1, false, |given| {
        let number = Given(given).number(0)?;
        if number < Number::Int(0) { number.negated().map(Value::Number) } else { Ok(Value::Number(number)) }
    }),
    Entry("add", 2, 2, false, |given| both(given, Number::plus)),
    Entry("subtract", 2, 2, false, |given| both(given, Number::minus)),
    Entry("multiply", 2, 2, false, |given| both(given, Number::times)),
    Entry("divide", 2, 2, false, |given| both(given, Number::over)),
    Entry("modulo", 2, 2, false, |given| both(given, Number::rest)),
    Entry("negate", 1, 1, false, |given| Given(given).number(0)?.negated().map(Value::Number)),
    Entry("ceil", 1, 1, false, |given| Ok(Value::Number(Given(given).number(0)?.ceil()))),
    Entry("floor", 1, 1, false, |given| Ok(Value::Number(Given(given).number(0)?.floor()))),
    Entry("int", 1, 1, false, |given| Ok(Value::Number(Given(given).number(0)?.truncated()))),
    Entry("signum", 1, 1, false, |given| {
        let number = Given(given).number(0)?;
        Ok(Value::int(i32::from(number > Number::Int(0)) - i32::from(number < Number::Int(0))))
    }),
    Entry("pow", 2, 2, false, |given| {
        let (base, power) = (Given(given).number(0)?, Given(given).number(1)?);
        let exactly = match (base.int(), power.int().and_then(|power| u32::try_from(power).ok())) {
            (Some(base), Some(power)) => base.checked_pow(power),
            _ => None,
        };
        exactly
            .map_or_else(|| Number::of(base.float().powf(power.float())), |whole| Ok(Number::Int(whole)))
            .map(Value::Number)
    }),
    Entry("log", 2, 2, false, |given| {
        let (number, base) = (Given(given).number(0)?.float(), Given(given).number(1)?.float());
        Number::of(number.ln() / base.ln()).map(Value::Number)
    }),
    Entry("max", 1, ANY, false, |given| extreme(given, |one, best| one > best)),
    Entry("min", 1, ANY, false, |given| extreme(given, |one, best| one < best)),
    Entry("parseint", 2, 2, false, parse_int),
    Entry("and", 2, 2, false, |given| Ok(Value::Bool(Given(given).truth(0)? && Given(given).truth(1)?))),
    Entry("or", 2, 2, false, |given| Ok(Value::Bool(Given(given).truth(0)? || Given(given).truth(1)?))),
    Entry("not", 1, 1, false, |given| Ok(Value::Bool(!Given(given).truth(0)?))),
    Entry("equal", 2, 2, true, |given| Ok(Value::Bool(Given(given).value(0) == Given(given).value(1)))),
    Entry("notequal", 2, 2, true, |given| Ok(Value::Bool(Given(given).value(0) != Given(given).value(1)))),
    Entry("greaterthan", 2, 2, false, |given| compare(given, |one, other| one > other)),
    Entry("greaterthanorequalto", 2, 2, false, |given| compare(given, |one, other| one >= other)),
    Entry("lessthan", 2, 2, false, |given| compare(given, |one, other| one < other)),
    Entry("lessthanorequalto", 2, 2, false, |given| compare(given, |one, other| one <= other)),
];

fn both(given: &[Value], does: fn(Number, Number) -> Result<Number, String>) -> Outcome {
    does(Given(given).number(0)?, Given(given).number(1)?).map(Value::Number)
}

fn compare(given: &[Value], does: fn(Number, Number) -> bool) -> Outcome {
    Ok(Value::Bool(does(Given(given).number(0)?, Given(given).number(1)?)))
}

fn extreme(given: &[Value], is_better: fn(Number, Number) -> bool) -> Outcome {
    let mut best = Given(given).number(0)?;
    for place in 1..given.len() {
        let one = Given(given).number(place)?;
        if is_better(one, best) {
            best = one;
        }
    }
    Ok(Value::Number(best))
}

fn parse_int(given: &[Value]) -> Outcome {
    let text = Given(given).text(0)?;
    let base = Given(given).whole(1, 2, 62)?;
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let mut whole = (!digits.is_empty()).then_some(0_i128);
    for digit in digits.chars() {
        // As Go has them: above base 36 capitals are digits of their own.
        let value = match digit {
            '0'..='9' => digit as i128 - '0' as i128,
            'a'..='z' => digit as i128 - 'a' as i128 + 10,
            'A'..='Z' if base <= 36 => digit as i128 - 'A' as i128 + 10,
            'A'..='Z' => digit as i128 - 'A' as i128 + 36,
            _ => i128::MAX,
        };
        whole = whole
            .filter(|_| value < i128::from(base))
            .and_then(|whole| whole.checked_mul(i128::from(base))?.checked_add(value));
    }
    let sign = if digits.len() < text.len() { -1 } else { 1 };
    let whole = whole.ok_or_else(|| format!("{text:?} is no whole number in base {base}"))?;
    Ok(Value::int(whole * sign))
}
