//! Addresses and their prefixes.

use std::net::IpAddr;

use super::super::value::Value;
use super::given::{ANY, Entry, Given};

pub(super) const ALL: &[Entry] = &[
    Entry("cidrhost", 2, 2, false, |given| {
        let prefix = Prefix::parse(&Given(given).text(0)?)?;
        let number = Given(given).whole(1, i64::MIN, i64::MAX)?;
        let most = prefix.size() - u128::from(prefix.bits == 0 && prefix.length == 128);
        let offset = i128::from(number);
        let place = if offset < 0 {
            most.checked_sub(offset.unsigned_abs() - 1)
        } else {
            Some(offset.unsigned_abs())
        };
        let place = place.filter(|place| *place <= most);
        let place = place.ok_or_else(|| {
            format!("prefix of {} does not accommodate a host numbered {number}", prefix.bits)
        })?;
        Ok(Value::text(prefix.address(prefix.base | place).to_string()))
    }),
    Entry("cidrnetmask", 1, 1, false, |given| {
        let prefix = Prefix::parse(&Given(given).text(0)?)?;
        if prefix.length != 32 {
            return Err("only IPv4 networks have masks".to_owned());
        }
        Ok(Value::text(prefix.address(u128::from(u32::MAX) & !prefix.size()).to_string()))
    }),
    Entry("cidrsubnet", 3, 3, false, |given| {
        let prefix = Prefix::parse(&Given(given).text(0)?)?;
        let bits = prefix.more(Given(given).whole(1, 0, 128)?)?;
        let number = Given(given).whole(2, 0, i64::MAX)?.unsigned_abs();
        let most = 1_u128.checked_shl(bits - prefix.bits).unwrap_or(u128::MAX);
        if u128::from(number) >= most {
            return Err(format!(
                "prefix extension of {} does not accommodate a subnet numbered {number}",
                bits - prefix.bits
            ));
        }
        let base = prefix.base | u128::from(number).checked_shl(prefix.length - bits).unwrap_or_default();
        Ok(Value::text(format!("{}/{bits}", prefix.address(base))))
    }),
    Entry("cidrsubnets", 1, ANY, false, |given| {
        let prefix = Prefix::parse(&Given(given).text(0)?)?;
        let end = prefix.base.checked_add(prefix.size());
        let (mut at, mut all) = (prefix.base, Vec::new());
        for place in 1..given.len() {
            let bits = prefix.more(Given(given).whole(place, 1, 128)?)?;
            let size = 1_u128.checked_shl(prefix.length - bits).unwrap_or(u128::MAX);
            let begin = at.checked_add(size - 1).map(|begin| begin / size * size);
            let last = begin.and_then(|begin| begin.checked_add(size - 1));
            let (Some(begin), Some(last)) = (begin, last.filter(|last| end.is_none_or(|end| *last <= end)))
            else {
                return Err(format!(
                    "not enough remaining address space for a subnet with a prefix of {bits} bits"
                ));
            };
            all.push(Value::text(format!("{}/{bits}", prefix.address(begin))));
            at = last.saturating_add(1);
        }
        Value::list(all)
    }),
];

struct Prefix {
    base: u128,
    bits: u32,
    length: u32,
}

impl Prefix {
    fn parse(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('/')
            .and_then(|(address, bits)| Some((address.parse().ok()?, bits.parse().ok()?)));
        let (address, bits): (IpAddr, u32) = parts.ok_or_else(|| format!("invalid CIDR address: {text}"))?;
        let (number, length) = match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        if bits > length {
            return Err(format!("invalid CIDR address: {text}"));
        }
        let mut prefix = Self { base: number, bits, length };
        prefix.base &= !prefix.size();
        Ok(prefix)
    }

    /// The last number of a host in it.
    const fn size(&self) -> u128 {
        match 1_u128.checked_shl(self.length - self.bits) {
            Some(size) => size - 1,
            None => u128::MAX,
        }
    }

    fn more(&self, bits: i64) -> Result<u32, String> {
        let whole = u32::try_from(bits).ok().map(|bits| self.bits + bits).filter(|bits| *bits <= self.length);
        whole.ok_or_else(|| format!("insufficient address space to extend prefix of {} by {bits}", self.bits))
    }

    fn address(&self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(number) if self.length == 32 => IpAddr::V4(number.into()),
            _ => IpAddr::V6(number.into()),
        }
    }
}
