//! When a follower looks into the object store again.

use uuid::Uuid;

/// A look that brings nothing is repeated after 1, 2, 4 … turns, and at last after so many: 16 minutes, with the
/// `remote.log.manager.task.interval.ms` that is the default.
const TURNS_MAX: u32 = 32;

/// Why there may be something new there; something else than before is looked for at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Who leads now may change anything; no reason of its own.
    pub(crate) leader_epoch: i32,
    /// Full segments are here up to this offset, of which nothing is known there.
    pub(crate) uploaded: Option<i64>,
    /// The log starts at this offset, beyond what is known there.
    pub(crate) deleted: Option<i64>,
    /// An upload that is named was not found when the disk was to give it up.
    pub(crate) lost: Option<Uuid>,
    /// By the manifest of this number, which is the one that is known, something could not be read.
    pub(crate) unread: Option<u64>,
}

/// How often somebody looked for the same, and what was not found meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    news: News,
    /// Turns that pass without a look.
    left: u32,
    /// After the next look so many pass.
    wait: u32,
    lost: Option<Uuid>,
    unread: Option<u64>,
}

impl Looks {
    /// Whether it is looked in this turn.
    pub(crate) fn is_due(&mut self, news: News) -> bool {
        if self.news != news {
            (self.news, self.left, self.wait) = (news, 0, 0);
        }
        if news == (News { leader_epoch: news.leader_epoch, ..News::default() }) {
            return false;
        }
        let is_due = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_due
    }

    /// The store answered. One that does not is asked again in the next turn.
    pub(crate) fn looked(&mut self) {
        self.left = self.wait;
        self.wait = (2 * self.wait + 1).min(TURNS_MAX - 1);
    }

    /// Which upload the store did not have when it was asked last; `None` = it had all.
    pub(crate) fn note_lost(&mut self, lost: Option<Uuid>) {
        self.lost = lost;
    }

    pub(crate) fn lost(&self) -> Option<Uuid> {
        self.lost
    }

    /// By the manifest of that number something could not be read.
    pub(crate) fn note_unread(&mut self, version: u64) {
        self.unread = Some(version);
    }

    pub(crate) fn unread(&self) -> Option<u64> {
        self.unread
    }
}

#[cfg(test)]
mod tests {
    use super::{Looks, News};

    fn news(end: i64) -> News {
        News { leader_epoch: 3, uploaded: Some(end), ..News::default() }
    }

    /// The turns of so many in which it is looked.
    fn turns(looks: &mut Looks, news: News, count: u32) -> Vec<u32> {
        let look = |_: &u32| {
            let is_due = looks.is_due(news);
            if is_due {
                looks.looked();
            }
            is_due
        };
        (0..count).filter(look).collect()
    }

    #[test]
    fn what_does_not_come_is_looked_for_less_and_less_often_and_something_else_at_once() {
        let mut looks = Looks::default();
        assert_eq!(turns(&mut looks, news(10), 100), [0, 1, 3, 7, 15, 31, 63, 95]);
        assert_eq!(turns(&mut looks, news(20), 5), [0, 1, 3]);
        let nothing = News { leader_epoch: 3, ..News::default() };
        assert_eq!(turns(&mut looks, nothing, 5), Vec::<u32>::new());
        assert_eq!(turns(&mut looks, news(20), 5), [0, 1, 3], "it was found meanwhile, and is wanted anew");
    }

    #[test]
    fn a_store_that_does_not_answer_is_asked_in_each_turn() {
        let mut looks = Looks::default();
        assert!((0..5).all(|_| looks.is_due(news(10))));
    }
}
