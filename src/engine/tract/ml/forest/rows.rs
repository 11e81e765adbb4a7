//! Rows as the walk wants them: only the columns that the nodes look at, some with their sign turned, and behind them
//! one that is always missing, which is the leaves'.

use super::Value;
use super::walk::LANES;

/// A column of a prepared row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    pub feature: u32,
    pub negate: bool,
}

impl Slot {
    #[inline(always)]
    fn of<E: Copy + Into<V>, V: Value>(self, row: &[E]) -> V {
        let value: V = row[self.feature as usize].into();
        if self.negate { value.negated() } else { value }
    }
}

/// Writes one row.
pub fn prepare_row<E: Copy + Into<V>, V: Value>(slots: &[Slot], row: &[E], prepared: &mut [V]) {
    for (slot, prepared) in slots.iter().zip(prepared) {
        *prepared = slot.of(row);
    }
}

/// Writes a group of rows, column by column.
pub fn prepare_group<E: Copy + Into<V>, V: Value>(
    slots: &[Slot],
    rows: [&[E]; LANES],
    prepared: &mut [[V; LANES]],
) {
    for (slot, prepared) in slots.iter().zip(prepared) {
        *prepared = rows.map(|row| slot.of(row));
    }
}
