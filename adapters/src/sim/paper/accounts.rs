//! What the simulated account owns. The venue refuses what it cannot pay.

use kairos_logic::units::{CurrencyId, Money, VenueId, pow10_i128};

/// Decimals of an amount here: the finest quantity scale, so that no quantity is ever rounded.
/// 10^26 whole units fit.
const SCALE: u32 = 12;
/// Units here per unit of [`Money`].
const PER_MONEY: i128 = 10_000;

/// Amounts by venue and currency, in units of 10^-12.
pub(super) struct Accounts {
    currencies: usize,
    total: Vec<i128>,
    locked: Vec<i128>,
}

/// Place of one currency at one venue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account(usize);

/// An amount of money in the unit of the accounts.
pub(super) const fn of_money(money: Money) -> i128 {
    money.0 as i128 * PER_MONEY
}

/// What one unit of a quantity with `qty_scale` decimals is in the unit of the accounts.
pub(super) fn per_qty(qty_scale: u8) -> i128 {
    pow10_i128(SCALE.saturating_sub(u32::from(qty_scale)))
}

impl Accounts {
    pub(super) fn new(venues: usize, currencies: usize) -> Self {
        let places = venues * currencies;
        Self { currencies, total: vec![0; places], locked: vec![0; places] }
    }

    pub(super) fn find(&self, venue: VenueId, currency: CurrencyId) -> Option<Account> {
        let currency = usize::from(currency.0);
        let place = usize::from(venue.0) * self.currencies + currency;
        (currency < self.currencies && place < self.total.len()).then_some(Account(place))
    }

    /// Moves what the account owns by `amount`.
    pub(super) fn add(&mut self, account: Account, amount: i128) {
        if let Some(total) = self.total.get_mut(account.0) {
            *total = total.saturating_add(amount);
        }
    }

    /// Moves what its resting orders lock by `amount`.
    pub(super) fn lock(&mut self, account: Account, amount: i128) {
        if let Some(locked) = self.locked.get_mut(account.0) {
            *locked = locked.saturating_add(amount);
        }
    }

    /// All of it, in the unit of the accounts.
    pub(super) fn total(&self, account: Account) -> i128 {
        self.total.get(account.0).copied().unwrap_or(0)
    }

    /// What no resting order locks, in the unit of the accounts.
    pub(super) fn available(&self, account: Account) -> i128 {
        self.total(account) - self.locked.get(account.0).copied().unwrap_or(0)
    }

    /// All of it and what is free, rounded down to money.
    pub(super) fn money(&self, account: Account) -> (Money, Money) {
        let money = |amount: i128| {
            let units = amount.div_euclid(PER_MONEY);
            Money(i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX }))
        };
        (money(self.total(account)), money(self.available(account)))
    }
}
