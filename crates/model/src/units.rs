//! Quantities as people write them: "100/min", "25MiB", "90s".

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is not a quantity of the expected unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct UnitError {
    text: String,
    expected: &'static str,
}

impl UnitError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(64).collect(),
            expected,
        }
    }
}

/// Splits "25 MiB" into 25 and "MiB".
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// How often something may happen: `count` in each `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    period: Duration,
}

impl Rate {
    /// `count` in each second.
    pub const fn per_second(count: u32) -> Self {
        Self {
            count,
            period: Duration::from_secs(1),
        }
    }

    /// The average distance between two events; one hour where the rate is 0.
    pub fn interval(&self) -> Duration {
        self.period
            .checked_div(self.count)
            .unwrap_or(Duration::from_secs(3600))
    }

    /// Events in one second, on average.
    pub fn per_second_f64(&self) -> f64 {
        f64::from(self.count) / self.period.as_secs_f64()
    }

    /// `parts` of `whole` parts of the same rate; `whole` is at least 1.
    pub fn fraction(&self, parts: u32, whole: u32) -> Self {
        Self {
            count: self.count.saturating_mul(parts),
            period: self.period.saturating_mul(whole.max(1)),
        }
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || {
            UnitError::new(
                text,
                "a rate such as \"100/s\", \"600/min\", \"5000/h\" or \"20000/d\"",
            )
        };
        let (count, period) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        let seconds = match period.trim() {
            "s" | "sec" | "second" => 1,
            "min" | "m" | "minute" => 60,
            "h" | "hour" => 3600,
            "d" | "day" => 86_400,
            _ => return Err(wrong()),
        };
        if count == 0 {
            return Err(wrong());
        }
        Ok(Self {
            count,
            period: Duration::from_secs(seconds),
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.period.as_secs() {
            1 => write!(f, "{}/s", self.count),
            60 => write!(f, "{}/min", self.count),
            3600 => write!(f, "{}/h", self.count),
            86_400 => write!(f, "{}/d", self.count),
            seconds => write!(f, "{}/{seconds}s", self.count),
        }
    }
}

/// A number of octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::new(text, "a size such as \"512KiB\", \"25MiB\" or \"8GiB\"");
        let (number, unit) = split_number(text.trim()).ok_or_else(wrong)?;
        let factor = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(wrong()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Reads "250ms", "90s", "5min", "2h" or "3d".
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || {
        UnitError::new(
            text,
            "a duration such as \"250ms\", \"90s\", \"5min\", \"2h\" or \"3d\"",
        )
    };
    let (number, unit) = split_number(text.trim()).ok_or_else(wrong)?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_people_write_them() {
        assert_eq!(
            "600/min".parse::<Rate>().unwrap().interval(),
            Duration::from_millis(100)
        );
        assert_eq!("25MiB".parse::<ByteSize>().unwrap(), ByteSize(25 << 20));
        assert_eq!(parse_duration("5min").unwrap(), Duration::from_secs(300));
    }

    #[test]
    fn quantities_print_as_they_read() {
        for text in ["100/s", "5000/h"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!(ByteSize(25 << 20).to_string(), "25MiB");
        assert_eq!(ByteSize(1025).to_string(), "1025B");
    }

    #[test]
    fn what_is_no_quantity_says_what_one_looks_like() {
        for text in ["", "fast", "10", "10/fortnight", "0/s", "-1/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert_eq!(
            parse_duration("soon").unwrap_err().to_string(),
            r#""soon" is not a duration such as "250ms", "90s", "5min", "2h" or "3d""#
        );
        assert!("99999999TiB".parse::<ByteSize>().is_err());
    }
}
