//! Things under dense numbers, which are used again.

/// A table whose first number is given; a free number is used before a new one.
#[derive(Debug)]
pub(super) struct Slots<T> {
    first: u32,
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(super) fn from(first: u32) -> Self {
        Self {
            first,
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn put(&mut self, thing: T) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        self.places[at as usize] = Some(thing);
        self.first + at
    }

    pub(super) fn take(&mut self, number: u32) -> Option<T> {
        let at = number.checked_sub(self.first)?;
        let thing = self.places.get_mut(at as usize)?.take()?;
        self.free.push(at);
        Some(thing)
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let at = number.checked_sub(self.first)?;
        self.places.get(at as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let at = number.checked_sub(self.first)?;
        self.places.get_mut(at as usize)?.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let numbered = (self.first..).zip(&self.places);
        numbered.filter_map(|(number, place)| Some((number, place.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let numbered = (self.first..).zip(&mut self.places);
        numbered.filter_map(|(number, place)| Some((number, place.as_mut()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_used_again() {
        let mut slots = Slots::from(1);
        assert_eq!((slots.put('a'), slots.put('b'), slots.put('c')), (1, 2, 3));
        assert_eq!(
            (slots.take(2), slots.take(2), slots.take(0)),
            (Some('b'), None, None)
        );
        assert_eq!((slots.len(), slots.get(3)), (2, Some(&'c')));
        assert_eq!(slots.put('d'), 2);
        let all: Vec<_> = slots.iter().collect();
        assert_eq!(all, [(1, &'a'), (2, &'d'), (3, &'c')]);
    }
}
