//! Values with a few names, which are the same in files and on command lines.

use serde::de::DeserializeOwned;

/// A value with a few names.
pub trait Choice: DeserializeOwned + Sized + 'static {
    /// All values.
    const VALUES: &'static [Self];
    /// Their names, in the same order.
    const NAMES: &'static [&'static str];
    /// A sentence about each value, for help texts.
    const HELP: &'static [&'static str];
}

/// Value with this name.
///
/// # Errors
/// One line with the names that exist.
pub fn choices<T: Choice>(name: &str) -> Result<T, String> {
    let deserializer = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name);
    T::deserialize(deserializer).map_err(|_| format!("'{name}' is none of {}", T::NAMES.join(", ")))
}

/// Declares an enum of names: kebab-case in files, on command lines and in texts.
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[doc = $help:literal])+ $(#[default $($is_default:tt)?])? $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        $vis enum $name { $($(#[doc = $help])+ $(#[default $($is_default)?])? #[serde(rename = $text)] $variant),+ }

        impl $crate::scenario::Choice for $name {
            const VALUES: &'static [Self] = &[$(Self::$variant),+];
            const NAMES: &'static [&'static str] = &[$($text),+];
            const HELP: &'static [&'static str] = &[$(concat!($($help),+)),+];
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(match self { $(Self::$variant => $text),+ })
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                $crate::scenario::choices(name)
            }
        }
    };
}
pub(super) use choice;
