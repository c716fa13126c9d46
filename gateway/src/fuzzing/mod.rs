//! What must hold for any bytes that come from outside: one function for each reader of such bytes.
//!
//! Each property is stated once and driven twice: by property tests, for moments and with bytes made for it, whenever
//! the tests run; and by the targets of `fuzz/`, for as long as one likes and with whatever leads to code not seen
//! before. A property panics where it does not hold. Nothing of this is part of the product.
//!
//! Where bytes reach a reader in pieces, the first byte of the input decides how it is cut up; see [`pieces`].

mod answers;
mod documents;
mod fields;
mod lists;
mod preludes;
pub(crate) mod reference;
mod requests;
mod settings;

pub use answers::answers;
#[cfg(test)]
pub(crate) use answers::{Message, read as read_answer};
pub use documents::documents;
pub use fields::fields;
pub use lists::lists;
pub use preludes::preludes;
pub use requests::requests;
#[cfg(test)]
pub(crate) use requests::{Client, LIMITS, Seen, served};
pub use settings::settings;

/// Takes whatever bytes there are; panics where it does not hold for them.
pub type Property = fn(&[u8]);

/// Every property by its name, which is its target's too.
pub const TARGETS: [(&str, Property); 7] = [
    ("answers", answers),
    ("documents", documents),
    ("fields", fields),
    ("lists", lists),
    ("preludes", preludes),
    ("requests", requests),
    ("settings", settings),
];

/// Cuts bytes into pieces of lengths that follow from a seed: 0 leaves them whole, 1 cuts behind every byte.
fn pieces(seed: u8, bytes: &[u8]) -> Vec<&[u8]> {
    match seed {
        0 => return vec![bytes],
        1 => return bytes.chunks(1).collect(),
        _ => {}
    }
    let (mut pieces, mut rest, mut state) = (Vec::new(), bytes, u32::from(seed));
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Mostly short pieces; now and then a long one.
        let length = 1 + (state >> 24) as usize % if state & 0x1_0000 == 0 { 8 } else { 200 };
        let (piece, left) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = left;
    }
    pieces
}

/// The first byte, and the others; nothing makes a zero.
fn split(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}

#[cfg(test)]
mod tests;
