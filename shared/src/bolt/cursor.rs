//! Walks over the elements of a tree in order.

use std::collections::VecDeque;
use std::ops::Bound;

use bytes::Bytes;

use super::error::{BoltError, Damage};
use super::format::{DEPTH_MAX, Page};
use super::pages::AHEAD_PAGES_MAX;
use super::view::Bucket;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// An element of a leaf.
#[derive(Debug, Clone)]
pub(super) struct Element {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) is_bucket: bool,
}

/// The elements within bounds. Keys must ascend: so a damaged tree whose pages share children ends with an error.
#[derive(Debug)]
pub(super) struct Range {
    bucket: Bucket,
    from: Bound<Bytes>,
    to: Bound<Bytes>,
    direction: Direction,
    /// From the root to a leaf; empty before the start.
    path: Vec<Level>,
    /// The next leaves under the lowest branch, with their numbers.
    ahead: VecDeque<(u64, Page)>,
    ahead_pages: usize,
    /// How many levels the first leaf has above it.
    leaf_level: usize,
    last: Option<Bytes>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Within,
    After,
}

#[derive(Debug)]
struct Level {
    page: Page,
    id: u64,
    /// The element that comes next in a leaf, the current child in a branch. Backward the one before it.
    at: usize,
}

impl Range {
    pub(super) fn new(bucket: &Bucket, from: Bound<Bytes>, to: Bound<Bytes>, direction: Direction) -> Range {
        Range {
            bucket: bucket.clone(),
            from,
            to,
            direction,
            path: Vec::new(),
            ahead: VecDeque::new(),
            ahead_pages: 1,
            leaf_level: 0,
            last: None,
            state: State::Before,
        }
    }

    fn damaged(&self, id: u64, damage: Damage) -> BoltError {
        self.bucket.view.pages.damaged(id, damage)
    }

    fn step(&mut self) -> Result<Option<Element>, BoltError> {
        if self.state == State::Before {
            self.state = State::Within;
            self.start()?;
        }
        loop {
            let Some(leaf) = self.path.last_mut() else { return Ok(None) };
            let at = match self.direction {
                Direction::Forward if leaf.at < leaf.page.count() => {
                    leaf.at += 1;
                    leaf.at - 1
                }
                Direction::Backward if leaf.at > 0 => {
                    leaf.at -= 1;
                    leaf.at
                }
                _ => {
                    self.next_leaf()?;
                    continue;
                }
            };
            let id = leaf.id;
            let (key, value) = match leaf.page.key_and_value(at) {
                Ok(pair) => pair,
                Err(damage) => return Err(self.damaged(id, damage)),
            };
            let is_bucket = leaf.page.is_bucket(at);
            if !self.is_before_end(&key) {
                return Ok(None);
            }
            let ascends = self.last.as_ref().is_none_or(|last| match self.direction {
                Direction::Forward => *last < key,
                Direction::Backward => *last > key,
            });
            if !ascends {
                return Err(self.damaged(id, Damage::KeyOrder(at)));
            }
            self.last = Some(key.clone());
            return Ok(Some(Element { key, value, is_bucket }));
        }
    }

    fn is_before_end(&self, key: &Bytes) -> bool {
        match (self.direction, &self.from, &self.to) {
            (Direction::Forward, _, Bound::Included(to)) => key <= to,
            (Direction::Forward, _, Bound::Excluded(to)) => key < to,
            (Direction::Backward, Bound::Included(from), _) => key >= from,
            (Direction::Backward, Bound::Excluded(from), _) => key > from,
            _ => true,
        }
    }

    /// Descends to the leaf with the first element.
    fn start(&mut self) -> Result<(), BoltError> {
        let (page, id) = self.bucket.root_page()?;
        self.descend(page, id)?;
        self.leaf_level = self.path.len() - 1;
        Ok(())
    }

    fn descend(&mut self, mut page: Page, mut id: u64) -> Result<(), BoltError> {
        loop {
            if self.path.len() == DEPTH_MAX {
                return Err(self.damaged(id, Damage::Depth(DEPTH_MAX)));
            }
            if page.count() == 0 && !(self.path.is_empty() && page.is_leaf()) {
                return Err(self.damaged(id, Damage::Empty));
            }
            let at = self.first_element(&page).map_err(|damage| self.damaged(id, damage))?;
            let leaf = page.is_leaf();
            let child = if leaf { 0 } else { page.child(at) };
            self.path.push(Level { page, id, at });
            if leaf {
                return Ok(());
            }
            page = self.read(child)?;
            id = child;
        }
    }

    /// Where to begin in a page: at the bound before the first element was found, at the edge later.
    fn first_element(&self, page: &Page) -> Result<usize, Damage> {
        let edge = match self.direction {
            Direction::Forward => 0,
            Direction::Backward if page.is_leaf() => page.count(),
            Direction::Backward => page.count() - 1,
        };
        let (Bound::Included(key) | Bound::Excluded(key)) = (match self.direction {
            Direction::Forward => &self.from,
            Direction::Backward => &self.to,
        }) else {
            return Ok(edge);
        };
        if self.last.is_some() {
            return Ok(edge);
        }
        if !page.is_leaf() {
            return page.child_for(key);
        }
        Ok(match (page.search(key)?, self.direction, &self.from, &self.to) {
            (Ok(found), Direction::Forward, Bound::Excluded(_), _)
            | (Ok(found), Direction::Backward, _, Bound::Included(_)) => found + 1,
            (Ok(at) | Err(at), ..) => at,
        })
    }

    /// Moves to the next leaf; the path is empty after the last one.
    fn next_leaf(&mut self) -> Result<(), BoltError> {
        self.path.pop();
        while let Some(branch) = self.path.last_mut() {
            let next = match self.direction {
                Direction::Forward => Some(branch.at + 1).filter(|at| *at < branch.page.count()),
                Direction::Backward => branch.at.checked_sub(1),
            };
            if let Some(at) = next {
                branch.at = at;
                let id = branch.page.child(at);
                let page = self.read_next(id)?;
                return self.descend(page, id);
            }
            self.path.pop();
            self.ahead.clear();
        }
        Ok(())
    }

    fn read(&self, id: u64) -> Result<Page, BoltError> {
        self.bucket.view.pages.page(id, self.bucket.view.high_water())
    }

    /// The page that the last branch of the path points to, and perhaps some after it.
    fn read_next(&mut self, id: u64) -> Result<Page, BoltError> {
        if let Some((_, page)) = self.ahead.pop_front_if(|(ahead, _)| *ahead == id) {
            return Ok(page);
        }
        self.ahead.clear();
        let pages = &self.bucket.view.pages;
        if let Some(page) = pages.cache.get(id) {
            return Ok(page);
        }
        let is_leaf = self.path.len() == self.leaf_level;
        let Some(branch) = self.path.last().filter(|_| is_leaf && self.direction == Direction::Forward)
        else {
            return self.read(id);
        };
        self.ahead_pages = (self.ahead_pages * 2).min(AHEAD_PAGES_MAX);
        let end = branch.page.count().min(branch.at + self.ahead_pages);
        let ids: Vec<u64> = (branch.at..end).map(|at| branch.page.child(at)).collect();
        let read = pages.read_ahead(&ids, self.ahead_pages, self.bucket.view.high_water())?;
        let mut read = ids.into_iter().zip(read);
        let first = read.next().map(|(_, page)| page);
        self.ahead.extend(read);
        match first {
            // Leaves of a scan would only displace what others need.
            Some(page) if page.is_leaf() => Ok(page),
            Some(page) => {
                pages.cache.add(id, page.clone());
                Ok(page)
            }
            None => self.read(id),
        }
    }
}

impl Iterator for Range {
    type Item = Result<Element, BoltError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::After {
            return None;
        }
        let element = self.step().transpose();
        if !matches!(element, Some(Ok(_))) {
            self.state = State::After;
            self.path.clear();
            self.ahead.clear();
        }
        element
    }
}
