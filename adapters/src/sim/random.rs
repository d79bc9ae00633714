//! Numbers that look random and are a function of a seed.

/// The 64-bit mixer of `SplitMix64`: one addition and one hash per number, the whole state in one word.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts a stream. Seeds that differ in one bit give unrelated streams.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for `purpose`, so that one consumer's draws do not shift another's.
    #[must_use]
    pub const fn fork(seed: u64, purpose: u64) -> Self {
        let mut mixed = Self(seed ^ purpose.wrapping_mul(0xd134_2543_de82_ef95));
        Self(mixed.draw())
    }

    /// The next 64 bits.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..=most`. The bias is below `most / 2^64`.
    pub const fn up_to(&mut self, most: u64) -> u64 {
        let product = (self.draw() as u128) * (most as u128 + 1);
        (product >> 64) as u64
    }

    /// A number in `-most..=most`.
    #[expect(
        clippy::cast_possible_wrap,
        reason = "most is at most 2^62 by the clamp, so twice that fits"
    )]
    pub const fn around(&mut self, most: u64) -> i64 {
        let most = if most > 1 << 62 { 1 << 62 } else { most };
        self.up_to(2 * most) as i64 - most as i64
    }

    /// A number in `[0, 1)`, one of 2^53.
    pub fn fraction(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_is_a_stream_and_every_number_stays_in_its_range() {
        let draws = |seed| {
            let mut random = Random::new(seed);
            [(); 64].map(|()| random.up_to(9))
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        let seen = draws(7);
        assert!((0..=9).all(|n| seen.contains(&n)), "{seen:?}");
        let mut random = Random::fork(7, 1);
        for _ in 0..1_000 {
            assert!((-5..=5).contains(&random.around(5)));
            assert!((0.0..1.0).contains(&random.fraction()));
            assert_eq!(random.up_to(0), 0);
        }
    }
}
