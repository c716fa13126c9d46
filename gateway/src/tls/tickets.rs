//! Session tickets: stateless, and bound to the listener and its validation policy.
//!
//! A ticket lets a client resume without showing its certificate again, so it must be worth nothing where another
//! listener, other anchors or other rules hold. Its key is therefore derived from what it is bound to: elsewhere it
//! opens to nothing and the handshake is a full one. The same inputs make the same key, so tickets survive reloads and
//! work on every worker. They are not bound to revocation data, which the gate looks at on every request; but where the
//! handshake itself is to tell that a certificate is revoked, a change of that data makes the next one a full one.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::trust::TrustDomain;

/// How long a key seals tickets, seconds. Its tickets open for as long again, so a ticket is good for 6 to 12 hours.
pub const TICKET_KEY_ROTATION_S: u64 = 6 * 3600;

const SECRET_BYTES: usize = 32;
const EPOCH_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;

/// The secret that every ticket key of the process is derived from.
#[derive(Clone)]
pub struct TicketKeys {
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    derived: Prk,
}

impl TicketKeys {
    /// Keys that end with the process and its successors.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate() -> Result<Self, Unspecified> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        aws_lc_rs::rand::fill(&mut *secret)?;
        Ok(Self::of(secret))
    }

    /// Writes the secret for a successor, so that its clients' sessions go on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn leave(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&*self.secret)
    }

    /// Reads the secret that a predecessor left.
    ///
    /// # Errors
    /// There is none.
    pub fn inherit(from: &mut impl Read) -> io::Result<Self> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        from.read_exact(&mut *secret)?;
        Ok(Self::of(secret))
    }

    fn of(secret: Zeroizing<[u8; SECRET_BYTES]>) -> Self {
        let derived = Salt::new(HKDF_SHA256, b"yett session tickets").extract(&*secret);
        Self { secret, derived }
    }

    /// Seals and opens tickets that are bound to `context`, and with a domain to its revocation data as well: a ticket
    /// of other data opens to nothing.
    pub(super) fn ticketer(&self, context: [u8; 32], domain: Option<Arc<TrustDomain>>) -> Ticketer {
        Ticketer {
            secret: self.derived.clone(),
            context,
            domain,
            keys: ArcSwapOption::empty(),
            clock: unix_seconds,
        }
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys(..)")
    }
}

/// Tickets of one listener: epoch, nonce, then the sealed session (AES-256-GCM). The epoch counts rotations since 1970,
/// so that all workers change keys at the same time without telling each other.
pub(super) struct Ticketer {
    secret: Prk,
    context: [u8; 32],
    domain: Option<Arc<TrustDomain>>,
    keys: ArcSwapOption<Keys>,
    clock: fn() -> u64,
}

struct Keys {
    epoch: u64,
    current: RandomizedNonceKey,
    previous: RandomizedNonceKey,
}

impl Ticketer {
    fn keys(&self) -> Option<Arc<Keys>> {
        let epoch = (self.clock)() / TICKET_KEY_ROTATION_S;
        if let Some(keys) = &*self.keys.load()
            && keys.epoch == epoch
        {
            return Some(keys.clone());
        }
        let keys = Arc::new(Keys {
            epoch,
            current: self.derive(epoch).ok()?,
            previous: self.derive(epoch.checked_sub(1)?).ok()?,
        });
        self.keys.store(Some(keys.clone()));
        Some(keys)
    }

    fn derive(&self, epoch: u64) -> Result<RandomizedNonceKey, Unspecified> {
        let mut key = Zeroizing::new([0; SECRET_BYTES]);
        self.secret.expand(&[&self.context, &epoch.to_be_bytes()], KeyBytes)?.fill(&mut *key)?;
        RandomizedNonceKey::new(&AES_256_GCM, &*key)
    }
}

impl Ticketer {
    /// What a ticket is authenticated with.
    fn bond(&self, epoch: [u8; EPOCH_BYTES]) -> [u8; EPOCH_BYTES + 32] {
        let mut bond = [0; EPOCH_BYTES + 32];
        bond[..EPOCH_BYTES].copy_from_slice(&epoch);
        if let Some(domain) = &self.domain {
            bond[EPOCH_BYTES..].copy_from_slice(&domain.revocation().load().digest());
        }
        bond
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_KEY_ROTATION_S as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys()?;
        let epoch = keys.epoch.to_be_bytes();
        let mut sealed = plain.to_vec();
        let nonce = keys.current.seal_in_place_append_tag(Aad::from(self.bond(epoch)), &mut sealed).ok()?;
        Some([&epoch, &nonce.as_ref()[..], &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys()?;
        let (epoch, rest) = ticket.split_first_chunk::<EPOCH_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let sealed_in = u64::from_be_bytes(*epoch);
        let key = match keys.epoch.checked_sub(sealed_in)? {
            0 => &keys.current,
            1 => &keys.previous,
            _ => return None,
        };
        let mut session = sealed.to_vec();
        let length =
            key.open_in_place(Nonce::from(nonce), Aad::from(self.bond(*epoch)), &mut session).ok()?.len();
        session.truncate(length);
        Some(session)
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticketer(..)")
    }
}

struct KeyBytes;

impl KeyType for KeyBytes {
    fn len(&self) -> usize {
        SECRET_BYTES
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::ValidationMode;
    use crate::tls::pki::{Ca, bundle};
    use crate::tls::revocation::RevocationIndex;

    const T: u64 = 1_000_000 * TICKET_KEY_ROTATION_S;

    fn at(keys: &TicketKeys, context: u8, clock: fn() -> u64) -> Ticketer {
        Ticketer { clock, ..keys.ticketer([context; 32], None) }
    }

    #[test]
    fn who_opens_a_ticket() {
        let keys = TicketKeys::generate().unwrap();
        let mut left = Vec::new();
        keys.leave(&mut left).unwrap();
        let successor = TicketKeys::inherit(&mut left.as_slice()).unwrap();
        assert!(TicketKeys::inherit(&mut &left[1..]).is_err());
        let ticket = at(&keys, 1, || T).encrypt(b"session").unwrap();
        for (description, ticketer, opens) in [
            ("made of the same inputs", at(&keys, 1, || T), true),
            ("at the end of the rotation", at(&keys, 1, || T + TICKET_KEY_ROTATION_S - 1), true),
            ("one rotation later", at(&keys, 1, || T + 2 * TICKET_KEY_ROTATION_S - 1), true),
            ("two rotations later", at(&keys, 1, || T + 2 * TICKET_KEY_ROTATION_S), false),
            ("before it was made", at(&keys, 1, || T - 1), false),
            ("bound to something else", at(&keys, 2, || T), false),
            ("of the predecessor", at(&successor, 1, || T), true),
            ("of another process", at(&TicketKeys::generate().unwrap(), 1, || T), false),
        ] {
            assert_eq!(
                ticketer.decrypt(&ticket).is_some_and(|plain| plain == b"session"),
                opens,
                "{description}"
            );
        }
    }

    #[test]
    fn a_ticket_that_is_bound_to_revocation_data_ends_with_it() {
        let keys = TicketKeys::generate().unwrap();
        let ca = Ca::root("CA");
        let domain = TrustDomain::new(bundle(&[&ca.der]), ValidationMode::AllowValidOnly, Vec::new());
        let domain = Arc::new(domain.unwrap());
        let publish = |of: u8| domain.revocation().store(RevocationIndex::empty().known_by([of; 32]).into());
        let (bound, free) = (keys.ticketer([1; 32], Some(domain.clone())), keys.ticketer([1; 32], None));
        publish(1);
        let tickets = [&bound, &free].map(|ticketer| ticketer.encrypt(b"session").unwrap());
        let opens = || {
            [&bound, &free]
                .map(|ticketer| tickets.each_ref().map(|ticket| ticketer.decrypt(ticket).is_some()))
        };
        assert_eq!(opens(), [[true, false], [false, true]]);
        publish(2);
        assert_eq!(opens(), [[false, false], [false, true]]);
        // A list that comes back is the same list, whatever was there in between.
        publish(1);
        assert_eq!(opens(), [[true, false], [false, true]]);
    }

    #[test]
    fn no_two_tickets_are_alike() {
        let ticketer = TicketKeys::generate().unwrap().ticketer([0; 32], None);
        assert_ne!(ticketer.encrypt(b"a"), ticketer.encrypt(b"a"));
    }

    proptest! {
        #[test]
        fn damaged_tickets_open_to_nothing(at in 0..100_usize, bit in 0..8_u8, cut in 0..40_usize) {
            let ticketer = TicketKeys::generate().unwrap().ticketer([0; 32], None);
            let mut ticket = ticketer.encrypt(&[7; 60]).unwrap();
            prop_assert!(ticketer.decrypt(&ticket[..cut]).is_none());
            let at = at.min(ticket.len() - 1);
            ticket[at] ^= 1 << bit;
            prop_assert!(ticketer.decrypt(&ticket).is_none());
        }
    }
}
