//! Names of a scenario's choices as values of flags.

use clap::{ValueEnum, builder::PossibleValue};

use crate::scenario::{Choice, Mode, Protocol, SendPhase};

macro_rules! values_of_flags {
    ($($choice:ty),+) => {$(
        impl ValueEnum for $choice {
            fn value_variants<'a>() -> &'a [Self] {
                <$choice as Choice>::VALUES
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                let at = <$choice as Choice>::VALUES.iter().position(|value| value == self)?;
                let help = <$choice as Choice>::HELP.get(at)?.trim().trim_end_matches('.');
                Some(PossibleValue::new(*<$choice as Choice>::NAMES.get(at)?).help(help))
            }
        }
    )+};
}

values_of_flags!(Mode, Protocol, SendPhase);
