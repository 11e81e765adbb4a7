//! Optional inputs and outputs: tract passes on only those that a node names.

/// Where each named input (or output) of a node stands among those that are there.
#[derive(Debug, Clone, PartialEq)]
pub struct Present(Vec<Option<usize>>);

impl Present {
    /// From a node's list of names, in which what is left out is empty.
    pub fn of(names: &[String]) -> Present {
        let mut count = 0;
        let places = names.iter().map(|name| {
            let place = (!name.is_empty()).then_some(count);
            count += usize::from(!name.is_empty());
            place
        });
        Present(places.collect())
    }

    /// The place of what stands at this position in the operator's definition.
    pub fn get(&self, position: usize) -> Option<usize> {
        self.0.get(position).copied().flatten()
    }

    /// The positions that are there, in order.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        let places = self.0.iter().enumerate();
        places.filter_map(|(position, place)| place.map(|_| position))
    }

    /// How many are there.
    pub fn count(&self) -> usize {
        self.positions().count()
    }
}
