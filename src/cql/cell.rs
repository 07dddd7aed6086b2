//! The bytes of a cell, taken apart: fixed-width numbers and the elements of collections.
//!
//! Cells come from a server, yet nothing here trusts a length: every read is bounded by the bytes that are there.
//! (CQL binary protocol v4, section 6.)

/// A value that does not have the shape of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A four-byte integer.
pub fn int(cell: &[u8]) -> Result<i32, Malformed> {
    cell.try_into().map(i32::from_be_bytes).map_err(|_| Malformed)
}

/// An eight-byte integer: `bigint`, `counter`, and `timestamp` in milliseconds.
pub fn bigint(cell: &[u8]) -> Result<i64, Malformed> {
    cell.try_into().map(i64::from_be_bytes).map_err(|_| Malformed)
}

/// A collection's elements, one after another; a map's keys and values alternate.
pub struct Elements<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Elements<'a> {
    /// The elements of a list or set.
    pub fn of_collection(cell: &'a [u8]) -> Result<Self, Malformed> {
        Elements::new(cell, 1)
    }

    /// The keys and values of a map.
    pub fn of_map(cell: &'a [u8]) -> Result<Self, Malformed> {
        Elements::new(cell, 2)
    }

    fn new(cell: &'a [u8], each: usize) -> Result<Self, Malformed> {
        let (count, rest) = cell.split_at_checked(4).ok_or(Malformed)?;
        let count = usize::try_from(int(count)?).map_err(|_| Malformed)?;
        let left = count.checked_mul(each).ok_or(Malformed)?;
        // Every element takes at least the four bytes of its length, so a hostile count ends here.
        if left > rest.len() / 4 {
            return Err(Malformed);
        }
        Ok(Elements { rest, left })
    }

    /// How many are left; a map's keys and values count apart.
    pub fn left(&self) -> usize {
        self.left
    }

    fn take(&mut self) -> Result<&'a [u8], Malformed> {
        let (length, rest) = self.rest.split_at_checked(4).ok_or(Malformed)?;
        let length = usize::try_from(int(length)?).map_err(|_| Malformed)?;
        let (element, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(element)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let element = self.take();
        if element.is_err() {
            self.left = 0;
        }
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(elements: &[Vec<u8>]) -> Vec<u8> {
        let mut cell = (elements.len() as i32).to_be_bytes().to_vec();
        for element in elements {
            cell.extend((element.len() as i32).to_be_bytes());
            cell.extend(element);
        }
        cell
    }

    #[test]
    fn a_hostile_count_or_length_is_malformed() {
        assert!(Elements::of_collection(&i32::MAX.to_be_bytes()).is_err());
        assert!(Elements::of_collection(&(-1_i32).to_be_bytes()).is_err());
        assert!(Elements::of_collection(&[0, 0]).is_err());
        let mut cell = 1_i32.to_be_bytes().to_vec();
        cell.extend(i32::MAX.to_be_bytes());
        let all: Vec<_> = Elements::of_collection(&cell).unwrap().collect();
        assert_eq!(all, vec![Err(Malformed)]);
    }

    proptest! {
        #[test]
        fn elements_come_back_as_they_were(elements in proptest::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let cell = encode(&elements);
            let read: Result<Vec<_>, _> = Elements::of_collection(&cell).unwrap().map(|e| e.map(<[u8]>::to_vec)).collect();
            prop_assert_eq!(read, Ok(elements));
        }

        #[test]
        fn arbitrary_bytes_end(cell in any::<Vec<u8>>()) {
            if let Ok(elements) = Elements::of_map(&cell) {
                prop_assert!(elements.count() <= cell.len());
            }
        }
    }
}
