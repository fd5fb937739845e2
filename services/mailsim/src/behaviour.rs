//! What a recipient's name asks for.

use model::Address;

/// How a mailbox behaves. The table in the crate's documentation says what each does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Any other name.
    Ordinary,
    Bounce,
    Full,
    Defer,
    Greylist,
    MxDown,
    Spam,
    Slow,
    Drop,
    Hang,
}

impl Behaviour {
    /// The behaviour of `address`, by its local part up to a `+`.
    pub(crate) fn of(address: &Address) -> Self {
        let name = address.local().split('+').next().unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "bounce" => Self::Bounce,
            "full" => Self::Full,
            "defer" => Self::Defer,
            "greylist" => Self::Greylist,
            "mxdown" => Self::MxDown,
            "spam" => Self::Spam,
            "slow" => Self::Slow,
            "drop" => Self::Drop,
            "hang" => Self::Hang,
            _ => Self::Ordinary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_does_not_change_the_behaviour() {
        let behaviour = |text: &str| Behaviour::of(&text.parse().unwrap());
        assert_eq!(behaviour("bounce@gmail.example"), Behaviour::Bounce);
        assert_eq!(behaviour("Bounce+job17@gmail.example"), Behaviour::Bounce);
        assert_eq!(behaviour("success@gmail.example"), Behaviour::Ordinary);
        assert_eq!(behaviour("bouncer@gmail.example"), Behaviour::Ordinary);
    }
}
