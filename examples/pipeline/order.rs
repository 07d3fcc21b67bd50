//! Orders as lines: pure functions. Fields are separated by commas, and there is no quoting: a line
//! with a quote is refused rather than misread.

use std::fmt;

/// An order on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Where it was in the input, from 1: the books know it by this.
    pub(crate) line: u64,
    pub(crate) id: String,
    pub(crate) sku: String,
    pub(crate) quantity: u64,
    pub(crate) country: String,
    pub(crate) next: Next,
}

/// The stage that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Reserve,
    /// The stock for it is taken.
    Ship,
}

impl Order {
    /// Reads `id,sku,quantity,country`, and maybe `,next`, as in a backlog.
    pub(crate) fn parse(line: u64, text: &str) -> Result<Self, String> {
        if text.contains('"') {
            return Err("quotes are not understood".to_owned());
        }
        let fields: Vec<_> = text.split(',').map(str::trim).collect();
        let (fields, next) = match fields.split_last() {
            Some((&"reserve", four)) if four.len() == 4 => (four, Next::Reserve),
            Some((&"ship", four)) if four.len() == 4 => (four, Next::Ship),
            _ => (&fields[..], Next::Reserve),
        };
        let &[id, sku, quantity, country] = fields else {
            return Err("not id,sku,quantity,country".to_owned());
        };
        if id.is_empty() || sku.is_empty() || country.is_empty() {
            return Err("a field is empty".to_owned());
        }
        let quantity = quantity.parse().ok().filter(|quantity| *quantity > 0);
        let quantity = quantity.ok_or("the quantity is no positive number")?;
        Ok(Self {
            line,
            id: id.to_owned(),
            sku: sku.to_owned(),
            quantity,
            country: country.to_owned(),
            next,
        })
    }

    /// Reads what [`spilled`](Self::spilled) wrote.
    pub(crate) fn unspill(text: &str) -> Option<Self> {
        let (line, rest) = text.trim_end().split_once(',')?;
        Self::parse(line.parse().ok()?, rest).ok()
    }

    /// For the file between two stages.
    pub(crate) fn spilled(&self) -> String {
        format!("{},{self},{}\n", self.line, self.next)
    }
}

/// Without the next stage.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            sku,
            quantity,
            country,
            ..
        } = self;
        write!(f, "{id},{sku},{quantity},{country}")
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reserve => "reserve",
            Self::Ship => "ship",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_back_from_a_spill_and_from_a_backlog() {
        for next in ["", ",reserve", ",ship"] {
            let order = Order::parse(7, &format!("a, b ,3,XY{next}")).unwrap();
            assert_eq!(Order::unspill(&order.spilled()), Some(order.clone()));
            let again = format!("{order},{}", order.next);
            assert_eq!(Order::parse(7, &again), Ok(order));
        }
    }

    #[test]
    fn what_is_no_order_is_refused() {
        for text in [
            "",
            "a,b,3",
            "a,b,3,XY,pack",
            "a,b,3,XY,ship,x",
            "a,b,0,XY",
            "a,b,-1,XY",
            "a,b,x,XY",
            ",b,3,XY",
            "a,,3,XY",
            "a,b,3,",
            "\"a\",b,3,XY",
        ] {
            let parsed = Order::parse(1, text);
            assert!(parsed.is_err(), "{text:?}: {parsed:?}");
        }
    }
}
