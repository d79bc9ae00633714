//! What follows from silence, where the venue's heart beats only between other messages.

use kairos_logic::units::Nanos;

/// The venue sends something about every second. After this long without, it is asked whether it is
/// there, and again after as long.
const ASK_NS: u64 = 3_000_000_000;
/// Nothing at all for this long, answers included, says that nobody is.
const SILENT_NS: u64 = 10_000_000_000;
/// A connection on which the client says nothing is closed after about a minute: it says something
/// this often.
const SPEAK_NS: u64 = 30_000_000_000;

/// What to do about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    Ping,
    GiveUp,
}

/// Signs of life of both sides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pulse {
    alive: Nanos,  // the venue's last sign
    pinged: Nanos, // ours
}

impl Pulse {
    /// A new connection.
    pub(super) fn new(at: Nanos) -> Self {
        Self { alive: at, pinged: at }
    }

    /// The venue gave a sign.
    #[inline]
    pub(super) fn alive(&mut self, at: Nanos) {
        self.alive = at;
    }

    /// Time passed.
    pub(super) fn look(&mut self, at: Nanos) -> Act {
        let (silent, since) = (at.since(self.alive), at.since(self.pinged));
        if silent >= SILENT_NS {
            return Act::GiveUp;
        }
        if since >= SPEAK_NS || silent >= ASK_NS && since >= ASK_NS {
            self.pinged = at;
            return Act::Ping;
        }
        Act::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_and_then_given_up() {
        let acts = |alive: &[u64], until: u64| {
            let mut pulse = Pulse::new(Nanos(0));
            let told = (0..=until).filter_map(|second| {
                let at = Nanos(second * 1_000_000_000);
                if alive.contains(&second) {
                    pulse.alive(at);
                }
                let act = pulse.look(at);
                (act != Act::Nothing).then_some((second, act))
            });
            told.collect::<Vec<_>>()
        };
        let (ping, give_up) = (Act::Ping, Act::GiveUp);
        assert_eq!(acts(&[], 10), [(3, ping), (6, ping), (9, ping), (10, give_up)]);
        assert_eq!(acts(&[4], 13), [(3, ping), (7, ping), (10, ping), (13, ping)]);
        let always: Vec<u64> = (0..100).collect();
        assert_eq!(acts(&always, 99), [(30, ping), (60, ping), (90, ping)]);
    }
}
