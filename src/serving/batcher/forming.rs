//! Which jobs the next batch is made of.

use std::time::Instant;

use super::{Batcher, Queued, TURNS, is_useful};

impl<J: Queued> Batcher<J> {
    /// Where the job stands that the next batch begins with.
    pub(super) fn ripe(
        &mut self,
        now: Instant,
        most_rows: &mut impl FnMut(&J::Class) -> usize,
    ) -> Option<(usize, usize)> {
        let first = self.levels.iter().position(|level| !level.is_empty())?;
        let below = (first + 1..self.levels.len()).filter(|level| !self.levels[*level].is_empty());
        let oldest = below.min_by_key(|level| self.levels[*level].front().map(|job| job.since));
        let is_their_turn = oldest.is_some() && self.turns + 1 >= TURNS;
        let order = match oldest {
            Some(oldest) if is_their_turn => vec![oldest],
            _ => Vec::new(),
        };
        let order = order.into_iter().chain(0..self.levels.len());
        let found = order.into_iter().find_map(|level| {
            let at = self.ripe_in(level, now, most_rows)?;
            Some((level, at))
        })?;
        self.turns = match oldest {
            Some(_) if found.0 == first => self.turns + 1,
            _ => 0,
        };
        Some(found)
    }

    /// The first job of this level whose batch need not wait any longer.
    pub(super) fn ripe_in(
        &self,
        level: usize,
        now: Instant,
        most_rows: &mut impl FnMut(&J::Class) -> usize,
    ) -> Option<usize> {
        let mut unripe: Vec<&J::Class> = Vec::new();
        self.levels[level].iter().position(|waiting| {
            let has_waited = now.saturating_duration_since(waiting.since) >= self.rules.delay;
            let Some(class) = waiting.job.class().filter(|_| !has_waited) else {
                return true;
            };
            if unripe.contains(&class) {
                return false;
            }
            let enough = self.enough(most_rows(class));
            let is_full = self.rows_of(class, enough, now) >= enough;
            if !is_full {
                unripe.push(class);
            }
            is_full
        })
    }

    /// At how many rows a batch waits for no more: the smallest size that is preferred, else as many as it may have.
    fn enough(&self, most: usize) -> usize {
        let preferred = self.rules.preferred.first();
        preferred.map_or(most, |rows| most.min(*rows)).max(1)
    }

    /// The size of a batch: the largest that is preferred among those that the waiting rows fill, else its share.
    pub(super) fn preferred(&self, share: usize, most: usize) -> usize {
        let sizes = self.rules.preferred.iter();
        let size = sizes.rev().find(|size| **size <= most);
        size.copied().unwrap_or(share)
    }

    /// The rows of a class that wait and are of use, as far as they matter.
    pub(super) fn rows_of(&self, class: &J::Class, enough: usize, now: Instant) -> usize {
        let mut rows = 0;
        for waiting in self.levels.iter().flatten() {
            if rows >= enough {
                break;
            }
            if waiting.job.class() == Some(class) && is_useful(&waiting.job, now) {
                rows += waiting.job.size().rows;
            }
        }
        rows
    }

    /// Adds jobs of the first one's class in order, while they fit: of its own level, then of the others.
    pub(super) fn fill(&mut self, batch: &mut Vec<J>, most: usize, own: usize, now: Instant) {
        let mut rows = batch.iter().map(|job| job.size().rows).sum::<usize>();
        for level in std::iter::once(own).chain(0..self.levels.len()) {
            let mut at = 0;
            while rows < most && at < self.levels[level].len() {
                let job = &self.levels[level][at].job;
                if job.class() != batch[0].class() {
                    at += 1;
                    continue;
                }
                if !is_useful(job, now) {
                    self.drop_at(level, at, now);
                    continue;
                }
                if rows + job.size().rows > most {
                    // What comes after it must not overtake it.
                    break;
                }
                rows += job.size().rows;
                batch.extend(self.remove(level, at));
            }
        }
    }
}
