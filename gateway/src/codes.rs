//! How the codes of findings are defined: `codes!` makes a closed enum of them, each with the words that it means.
//!
//! A macro alone: the enums are those of the stages that find something, and no stage knows another's.

/// Makes an enum of codes. Each variant has a sentence and the code as printed.
macro_rules! codes {
    ($(#[doc = $about:literal])+ enum $codes:ident; $($(#[doc = $meaning:literal])+ $name:ident = $code:literal,)+) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $codes {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl $codes {
            /// Every code.
            pub const ALL: &'static [$codes] = &[$($codes::$name),+];

            /// The code as printed, `YT0104`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($codes::$name => $code,)+
                }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $($codes::$name => concat!($($meaning),+).trim_ascii_start(),)+
                }
            }
        }
    };
}
