//! The limit on failed logins, by name and by address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The number of names and addresses that are remembered.
const MAX_KEYS: usize = 4_096;
/// Failures of one name from one address that are allowed at once, and the time after which one is forgiven.
const NAME_AT: (f64, Duration) = (5.0, Duration::from_secs(30));
/// Failures of one name from all addresses. The limit is looser, so that a stranger does not lock a user out easily.
const NAME: (f64, Duration) = (50.0, Duration::from_secs(10));
/// Failures from one address.
const ADDRESS: (f64, Duration) = (20.0, Duration::from_secs(5));

/// The kind of an attempt to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt<'a> {
    /// With a token. It has 256 random bits and is not guessed, so that its failures do not limit passwords.
    Token,
    /// With the password of this name.
    Password(&'a str),
}

/// The name or address that a limit applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Name(String),
    NameAt(String, IpAddr),
    Address(IpAddr),
    TokensOf(IpAddr),
}

impl Key {
    fn limit(&self) -> (f64, Duration) {
        match self {
            Self::Name(_) => NAME,
            Self::NameAt(..) => NAME_AT,
            Self::Address(_) | Self::TokensOf(_) => ADDRESS,
        }
    }
}

/// The failures of a key that are not forgiven yet.
struct Bucket {
    failures: f64,
    at: Instant,
}

impl Bucket {
    fn left(&self, forgiven_after: Duration, now: Instant) -> f64 {
        let forgiven = now.saturating_duration_since(self.at).as_secs_f64() / forgiven_after.as_secs_f64();
        (self.failures - forgiven).max(0.0)
    }
}

/// The failed logins of the last minutes. Its memory is bounded.
#[derive(Default)]
pub struct Failures(HashMap<Key, Bucket>);

/// Returns the address that a limit applies to: hosts have whole networks of IPv6 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        },
    }
}

fn keys(attempt: Attempt, address: IpAddr) -> Vec<Key> {
    let address = network(address);
    match attempt {
        Attempt::Token => vec![Key::TokensOf(address)],
        Attempt::Password(name) => {
            let name: String = name.chars().take(crate::access::MAX_NAME).collect();
            vec![Key::Address(address), Key::NameAt(name.clone(), address), Key::Name(name)]
        }
    }
}

impl Failures {
    /// Returns the time to wait before another attempt is allowed, or `None` if it is allowed now.
    pub fn wait(&self, attempt: Attempt, address: IpAddr, now: Instant) -> Option<Duration> {
        let wait = |key: Key| {
            let (allowed, forgiven_after) = key.limit();
            let over = self.0.get(&key)?.left(forgiven_after, now) + 1.0 - allowed;
            (over > 0.0).then(|| forgiven_after.mul_f64(over))
        };
        keys(attempt, address).into_iter().filter_map(wait).max()
    }

    /// Counts an attempt as failed before it is verified, so that attempts at the same time are limited too.
    ///
    /// # Errors
    /// Returns the time to wait if the attempt is not allowed now.
    pub fn charge(&mut self, attempt: Attempt, address: IpAddr, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.wait(attempt, address, now) {
            return Err(wait);
        }
        for key in keys(attempt, address) {
            if !self.0.contains_key(&key) {
                self.make_room(now);
            }
            let (_, forgiven_after) = key.limit();
            let bucket = self.0.entry(key).or_insert(Bucket { failures: 0.0, at: now });
            *bucket = Bucket { failures: bucket.left(forgiven_after, now) + 1.0, at: now };
        }
        Ok(())
    }

    /// Takes back the charge of an attempt that has succeeded.
    pub fn refund(&mut self, attempt: Attempt, address: IpAddr, now: Instant) {
        for key in keys(attempt, address) {
            let (_, forgiven_after) = key.limit();
            if let Some(bucket) = self.0.get_mut(&key) {
                let failures = (bucket.left(forgiven_after, now) - 1.0).max(0.0);
                *bucket = Bucket { failures, at: now };
            }
        }
    }

    /// Removes what is forgiven, and if nothing is, the key with the fewest failures: many names must not push out the one
    /// that is attacked.
    fn make_room(&mut self, now: Instant) {
        if self.0.len() < MAX_KEYS {
            return;
        }
        self.0.retain(|key, bucket| bucket.left(key.limit().1, now) > 0.0);
        while self.0.len() >= MAX_KEYS {
            let share = |key: &Key, bucket: &Bucket| bucket.left(key.limit().1, now) / key.limit().0;
            let least = self.0.iter().min_by(|a, b| share(a.0, a.1).total_cmp(&share(b.0, b.1)));
            let Some(least) = least.map(|(key, _)| key.clone()) else { return };
            self.0.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    const ANN: Attempt<'static> = Attempt::Password("ann");
    const BOB: Attempt<'static> = Attempt::Password("bob");

    #[test]
    fn a_name_and_an_address_are_limited_and_forgiven() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..5 {
            failures.charge(ANN, address(1), now).unwrap();
        }
        assert!(failures.charge(ANN, address(1), now).is_err());
        assert_eq!(failures.wait(ANN, address(2), now), None, "she is not locked out elsewhere");
        assert_eq!(failures.wait(BOB, address(1), now), None);
        let later = now + Duration::from_secs(31);
        assert_eq!(failures.wait(ANN, address(1), later), None);
        for number in 0..45 {
            failures.charge(ANN, address(100 + number), now).unwrap();
        }
        assert!(failures.wait(ANN, address(2), now).is_some(), "from all addresses together");
        for number in 0..20 {
            failures.charge(Attempt::Password(&format!("name{number}")), address(7), now).unwrap();
        }
        assert!(failures.wait(BOB, address(7), now).is_some());
        assert_eq!(failures.wait(Attempt::Token, address(7), now), None);
    }

    #[test]
    fn a_success_is_refunded_and_tokens_do_not_limit_passwords() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..100 {
            failures.charge(ANN, address(1), now).unwrap();
            failures.refund(ANN, address(1), now);
        }
        for _ in 0..20 {
            failures.charge(Attempt::Token, address(1), now).unwrap();
        }
        assert!(failures.wait(Attempt::Token, address(1), now).is_some());
        assert_eq!(failures.wait(ANN, address(1), now), None);
    }

    #[test]
    fn memory_is_bounded_and_an_attacked_name_stays() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..5 {
            failures.charge(ANN, address(0), now).unwrap();
        }
        for number in 0..u32::try_from(MAX_KEYS).unwrap() {
            let name = format!("name{number}");
            failures.charge(Attempt::Password(&name), address(number + 1), now).unwrap();
        }
        assert!(failures.0.len() <= MAX_KEYS + 1);
        assert!(failures.wait(ANN, address(0), now).is_some());
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for number in 0..20_u16 {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, number, 0, 0, 1);
            failures.charge(Attempt::Token, IpAddr::V6(address), now).unwrap();
        }
        let wait = |address: &str| failures.wait(Attempt::Token, address.parse().unwrap(), now);
        assert!(wait("2001:db8:0:1::7").is_some());
        assert_eq!(wait("2001:db8:0:2::7"), None);
    }
}
