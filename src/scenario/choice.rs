//! Values that are one of a few names, with the same names in files and on command lines.

use serde::de::DeserializeOwned;

/// A value that is one of a few names.
pub trait Choice: DeserializeOwned + 'static {
    /// All names, in the order in which help texts list them.
    const NAMES: &'static [&'static str];
}

/// The value of a name.
///
/// # Errors
/// One line with the names that exist.
pub fn choices<T: Choice>(name: &str) -> Result<T, String> {
    let deserializer = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name);
    T::deserialize(deserializer).map_err(|_| format!("'{name}' is none of {}", T::NAMES.join(", ")))
}

/// Declares an enum of names: kebab-case in files, on command lines and in texts.
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, )]
        $vis enum $name { $($(#[$variant_meta])* #[serde(rename = $text)] $variant),+ }

        impl $crate::scenario::Choice for $name {
            const NAMES: &'static [&'static str] = &[$($text),+];
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
