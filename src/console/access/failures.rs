//! The limit on failed logins, by name and by address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The number of names and addresses that are remembered.
const MAX_KEYS: usize = 4_096;
/// Failures of one name that are allowed at once, and the time after which one is forgiven.
const NAME: (f64, Duration) = (5.0, Duration::from_secs(30));
/// Failures from one address that are allowed at once, and the time after which one is forgiven.
const ADDRESS: (f64, Duration) = (20.0, Duration::from_secs(5));

/// The name or address that a limit applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Name(String),
    Address(IpAddr),
}

impl Key {
    fn limit(&self) -> (f64, Duration) {
        match self {
            Self::Name(_) => NAME,
            Self::Address(_) => ADDRESS,
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

fn keys(name: Option<&str>, address: IpAddr) -> impl Iterator<Item = Key> {
    let name = name.map(|name| Key::Name(name.chars().take(super::credentials::MAX_NAME).collect()));
    [Some(Key::Address(network(address))), name].into_iter().flatten()
}

impl Failures {
    /// Returns the time to wait before another attempt is allowed, or `None` if it is allowed now.
    pub fn wait(&self, name: Option<&str>, address: IpAddr, now: Instant) -> Option<Duration> {
        let wait = |key: Key| {
            let (allowed, forgiven_after) = key.limit();
            let over = self.0.get(&key)?.left(forgiven_after, now) + 1.0 - allowed;
            (over > 0.0).then(|| forgiven_after.mul_f64(over))
        };
        keys(name, address).filter_map(wait).max()
    }

    /// Adds a failed attempt.
    pub fn add(&mut self, name: Option<&str>, address: IpAddr, now: Instant) {
        for key in keys(name, address) {
            if !self.0.contains_key(&key) {
                self.make_room(now);
            }
            let (_, forgiven_after) = key.limit();
            let bucket = self.0.entry(key).or_insert(Bucket { failures: 0.0, at: now });
            *bucket = Bucket { failures: bucket.left(forgiven_after, now) + 1.0, at: now };
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

    #[test]
    fn a_name_and_an_address_are_limited_and_forgiven() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for number in 0..5 {
            assert_eq!(failures.wait(Some("ann"), address(number), now), None);
            failures.add(Some("ann"), address(number), now);
        }
        assert!(failures.wait(Some("ann"), address(9), now).is_some(), "from any address");
        assert_eq!(failures.wait(Some("bob"), address(9), now), None);
        let later = now + Duration::from_secs(31);
        assert_eq!(failures.wait(Some("ann"), address(9), later), None);
        for _ in 0..20 {
            failures.add(None, address(7), now);
        }
        assert!(failures.wait(None, address(7), now).is_some());
        assert!(failures.wait(Some("new"), address(7), now).is_some());
    }

    #[test]
    fn memory_is_bounded_and_an_attacked_name_stays() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..5 {
            failures.add(Some("ann"), address(0), now);
        }
        for number in 0..2 * u32::try_from(MAX_KEYS).unwrap() {
            failures.add(Some(&format!("name{number}")), address(number + 1), now);
        }
        assert!(failures.0.len() <= MAX_KEYS + 1);
        assert!(failures.wait(Some("ann"), address(1), now).is_some());
    }

    #[test]
    fn addresses_of_one_network_count_together() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for number in 0..20_u16 {
            failures.add(None, IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, number, 0, 0, 1)), now);
        }
        assert!(failures.wait(None, "2001:db8:0:1::7".parse().unwrap(), now).is_some());
        assert_eq!(failures.wait(None, "2001:db8:0:2::7".parse().unwrap(), now), None);
    }
}
