//! Numbers of bake files: whole ones exactly, others as 64-bit floats.

use std::cmp::Ordering;
use std::fmt;

/// A number. One that is whole is `Int` wherever that holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i128),
    Float(f64),
}

/// Up to here a float tells each whole number from the next.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Number {
    /// Refuses what is no number.
    pub(crate) fn of(float: f64) -> Result<Self, String> {
        if !float.is_finite() {
            return Err("the result is no finite number".to_owned());
        }
        Ok(Self::Float(float).plain())
    }

    fn plain(self) -> Self {
        match self {
            Self::Float(float) if float.fract() == 0.0 && float.abs() <= EXACT => Self::Int(float as i128),
            other => other,
        }
    }

    /// Reads `12`, `-1.5` and `1e3`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        if digits.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(number) = text.parse()
        {
            return Some(Self::Int(number));
        }
        Self::of(text.parse().ok()?).ok()
    }

    pub(crate) fn float(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    /// As a whole number, if it is one.
    pub(crate) const fn int(self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(number),
            Self::Float(_) => None,
        }
    }

    fn both(
        self,
        other: Self,
        exactly: impl Fn(i128, i128) -> Option<i128>,
        nearly: impl Fn(f64, f64) -> f64,
    ) -> Result<Self, String> {
        if let (Self::Int(left), Self::Int(right)) = (self, other)
            && let Some(result) = exactly(left, right)
        {
            return Ok(Self::Int(result));
        }
        Self::of(nearly(self.float(), other.float()))
    }

    pub(crate) fn plus(self, other: Self) -> Result<Self, String> {
        self.both(other, i128::checked_add, |left, right| left + right)
    }

    pub(crate) fn minus(self, other: Self) -> Result<Self, String> {
        self.both(other, i128::checked_sub, |left, right| left - right)
    }

    pub(crate) fn times(self, other: Self) -> Result<Self, String> {
        self.both(other, i128::checked_mul, |left, right| left * right)
    }

    pub(crate) fn over(self, other: Self) -> Result<Self, String> {
        if other.float() == 0.0 {
            return Err("division by zero".to_owned());
        }
        let exactly = |left: i128, right: i128| (left % right == 0).then(|| left / right);
        self.both(other, exactly, |left, right| left / right)
    }

    pub(crate) fn rest(self, other: Self) -> Result<Self, String> {
        if other.float() == 0.0 {
            return Err("division by zero".to_owned());
        }
        self.both(other, i128::checked_rem, |left, right| left % right)
    }

    pub(crate) fn negated(self) -> Result<Self, String> {
        Self::Int(0).minus(self)
    }

    pub(crate) fn floor(self) -> Self {
        match self {
            Self::Float(float) => Self::Float(float.floor()).plain(),
            whole @ Self::Int(_) => whole,
        }
    }

    pub(crate) fn ceil(self) -> Self {
        match self {
            Self::Float(float) => Self::Float(float.ceil()).plain(),
            whole @ Self::Int(_) => whole,
        }
    }

    pub(crate) fn truncated(self) -> Self {
        match self {
            Self::Float(float) => Self::Float(float.trunc()).plain(),
            whole @ Self::Int(_) => whole,
        }
    }

    pub(crate) fn to_json(self) -> serde_json::Value {
        match self {
            Self::Int(number) => match (i64::try_from(number), u64::try_from(number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => (number as f64).into(),
            },
            Self::Float(number) => number.into(),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => Some(left.cmp(right)),
            _ => self.float().partial_cmp(&other.float()),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_exact() {
        let of = |text: &str| Number::parse(text).unwrap();
        for (number, shown) in [
            (of("12345678901234567890123"), "12345678901234567890123"),
            (of("1.50"), "1.5"),
            (of("1e3"), "1000"),
            (of("7").over(of("2")).unwrap(), "3.5"),
            (of("6").over(of("2")).unwrap(), "3"),
            (of("-7").rest(of("4")).unwrap(), "-3"),
            (of("1e300"), &format!("{}", 1e300_f64)),
        ] {
            assert_eq!(number.to_string(), shown);
        }
        assert!(of("1").over(of("0")).is_err() && of("1e308").times(of("10")).is_err());
        for text in ["", "-", "x", "1x", "inf", "NaN", "0x1", "+1", "1e999"] {
            assert!(Number::parse(text).is_none(), "{text}");
        }
    }
}
