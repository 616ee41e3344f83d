//! The children of a directory: a B-tree of small shared branches, ordered by the bytes of the names.
//!
//! Cloning takes one reference. A change copies the branches on its path only if they are shared, so its cost grows
//! with the logarithm of the number of children.

use std::{mem, slice};

use smallvec::SmallVec;
use triomphe::Arc;

use super::node::{Child, name_tag};

/// A branch with as many slots is split.
const SLOTS_MAX: usize = 32;
/// A branch with fewer slots is joined with a neighbour, if there is room.
const SLOTS_FEW: usize = 8;
/// A joined branch has at most as many slots, so that it is not split again at once.
const SLOTS_JOINED_MAX: usize = SLOTS_MAX * 3 / 4;
/// No tree is higher: neighbours hold more than `SLOTS_JOINED_MAX` slots or one of them at least
/// `SLOTS_FEW`, and memory ends long before.
const HEIGHT_MAX: usize = 24;

/// The children of a directory, in the order of their names.
#[derive(Clone, Default)]
pub(crate) struct Children {
    root: Option<Arc<Branch>>,
}

#[derive(Clone)]
enum Branch {
    /// Never empty, sorted by name.
    Leaf(Vec<Child>),
    /// Never empty; all branches below are of the same height.
    Inner(Vec<Entry>),
}

/// A branch below another.
#[derive(Clone)]
struct Entry {
    /// Greater than all names left of this branch and not greater than those in it. Empty in the first
    /// entry. Only as long as it must be to tell the branches apart.
    from: Separator,
    branch: Arc<Branch>,
}

type Separator = SmallVec<[u8; 16]>;

/// The position of a child, present or not: the slot in each branch from the root down. Valid until the next change.
#[derive(Clone, Copy, Default)]
pub(crate) struct Position {
    height: u8,
    slots: [u8; HEIGHT_MAX],
}

impl Position {
    #[expect(clippy::cast_possible_truncation, reason = "a slot is at most SLOTS_MAX")]
    fn push(&mut self, slot: usize) {
        self.slots[usize::from(self.height)] = slot as u8;
        self.height += 1;
    }

    fn slots(&self) -> &[u8] {
        &self.slots[..usize::from(self.height)]
    }
}

impl Children {
    /// The children in `sorted`, whose names must be in strictly ascending order. O(n), and all branches
    /// are full.
    pub(crate) fn from_sorted(sorted: Vec<Child>) -> Children {
        debug_assert!(sorted.is_sorted_by(|a, b| a.name() < b.name()), "names out of order");
        let mut level = Vec::with_capacity(sorted.len().div_ceil(SLOTS_MAX));
        let mut last_name = Separator::new();
        let mut rest = sorted.into_iter();
        loop {
            let leaf: Vec<Child> = rest.by_ref().take(SLOTS_MAX).collect();
            let (Some(first), Some(last)) = (leaf.first(), leaf.last()) else { break };
            let from = if level.is_empty() { Separator::new() } else { separator(&last_name, first.name()) };
            last_name = Separator::from_slice(last.name());
            level.push(Entry { from, branch: Arc::new(Branch::Leaf(leaf)) });
        }
        while level.len() > 1 {
            let mut above = Vec::with_capacity(level.len().div_ceil(SLOTS_MAX));
            let mut rest = level.into_iter();
            loop {
                let mut entries: Vec<Entry> = rest.by_ref().take(SLOTS_MAX).collect();
                let Some(first) = entries.first_mut() else { break };
                let from = mem::take(&mut first.from);
                above.push(Entry { from, branch: Arc::new(Branch::Inner(entries)) });
            }
            level = above;
        }
        Children { root: level.pop().map(|entry| entry.branch) }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// All of them in order.
    pub(crate) fn iter(&self) -> Iter<'_> {
        let mut iter = Iter::default();
        if let Some(root) = &self.root {
            iter.descend(root);
        }
        iter
    }

    /// Those whose names come after this one, in order. O(log n).
    pub(crate) fn iter_after(&self, name: &[u8]) -> Iter<'_> {
        let mut iter = Iter::default();
        let mut next = self.root.as_deref();
        while let Some(branch) = next.take() {
            match branch {
                Branch::Inner(entries) => {
                    let slot = slot_of(entries, name);
                    iter.above.push(entries[slot + 1..].iter());
                    next = Some(&entries[slot].branch);
                }
                Branch::Leaf(children) => {
                    let from = children.partition_point(|child| child.name() <= name);
                    iter.leaf = children[from..].iter();
                }
            }
        }
        iter
    }

    /// The child of that name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Child> {
        let mut branch = self.root.as_deref()?;
        let tag = name_tag(name);
        loop {
            match branch {
                Branch::Inner(entries) => branch = &entries[slot_of(entries, name)].branch,
                Branch::Leaf(children) => {
                    return children.iter().find(|child| child.tag() == tag && child.name() == name);
                }
            }
        }
    }

    /// Where the child of that name is; as an error, where it would be.
    pub(crate) fn find(&self, name: &[u8]) -> Result<Position, Position> {
        let mut position = Position::default();
        let Some(mut branch) = self.root.as_deref() else { return Err(position) };
        let tag = name_tag(name);
        loop {
            match branch {
                Branch::Inner(entries) => {
                    let slot = slot_of(entries, name);
                    position.push(slot);
                    branch = &entries[slot].branch;
                }
                Branch::Leaf(children) => {
                    let found = children.iter().position(|child| child.tag() == tag && child.name() == name);
                    position
                        .push(found.unwrap_or_else(|| children.partition_point(|child| child.name() < name)));
                    return if found.is_some() { Ok(position) } else { Err(position) };
                }
            }
        }
    }

    /// The child at a position that was just found.
    pub(crate) fn at_mut(&mut self, position: &Position) -> &mut Child {
        let mut branch = self.root.as_mut().expect("a position was found in a branch");
        let mut slots = position.slots().iter().map(|slot| usize::from(*slot));
        loop {
            let slot = slots.next().expect("a position leads to a leaf");
            match Arc::make_mut(branch) {
                Branch::Inner(entries) => branch = &mut entries[slot].branch,
                Branch::Leaf(children) => return &mut children[slot],
            }
        }
    }

    /// Adds a child where it was just not found.
    pub(crate) fn insert_at(&mut self, position: &Position, child: Child) {
        self.root = Some(match self.root.take() {
            None => Arc::new(Branch::Leaf(vec![child])),
            Some(mut root) => match insert(&mut root, position.slots(), child) {
                None => root,
                Some(right) => {
                    let left = Entry { from: Separator::new(), branch: root };
                    Arc::new(Branch::Inner(vec![left, right]))
                }
            },
        });
    }

    /// Adds a child, in place of one of the same name.
    pub(crate) fn insert(&mut self, child: Child) {
        match self.find(child.name()) {
            Ok(position) => *self.at_mut(&position) = child,
            Err(position) => self.insert_at(&position, child),
        }
    }

    /// Takes out the child at a position that was just found.
    pub(crate) fn remove_at(&mut self, position: &Position) -> Child {
        let root = self.root.as_mut().expect("a position was found in a branch");
        let child = remove(root, position.slots());
        // Remove root branches with a single child.
        loop {
            self.root = match self.root.as_deref() {
                Some(Branch::Leaf(children)) if children.is_empty() => None,
                Some(Branch::Inner(entries)) if entries.len() <= 1 => {
                    entries.first().map(|only| Arc::clone(&only.branch))
                }
                _ => return child,
            };
        }
    }
}

/// The slot of the branch in which a name is or would be.
fn slot_of(entries: &[Entry], name: &[u8]) -> usize {
    // The first entry's separator is empty and so never greater.
    entries.partition_point(|entry| *entry.from <= *name).saturating_sub(1)
}

/// The shortest separator between a name and a greater one.
fn separator(left: &[u8], right: &[u8]) -> Separator {
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    Separator::from_slice(&right[..right.len().min(common + 1)])
}

/// Adds a child below `branch`; returns the new right neighbour if the branch had to be split.
fn insert(branch: &mut Arc<Branch>, slots: &[u8], child: Child) -> Option<Entry> {
    let (slot, below) = slots.split_first().expect("a position leads to a leaf");
    let slot = usize::from(*slot);
    match Arc::make_mut(branch) {
        Branch::Leaf(children) => {
            let right = insert_slot(children, slot, child)?;
            let from = separator(children.last()?.name(), right.first()?.name());
            Some(Entry { from, branch: Arc::new(Branch::Leaf(right)) })
        }
        Branch::Inner(entries) => {
            let new = insert(&mut entries[slot].branch, below, child)?;
            let mut right = insert_slot(entries, slot + 1, new)?;
            let from = mem::take(&mut right.first_mut()?.from);
            Some(Entry { from, branch: Arc::new(Branch::Inner(right)) })
        }
    }
}

/// Puts an item into its slot; returns the upper part if there was no room for one more.
fn insert_slot<T>(slots: &mut Vec<T>, at: usize, item: T) -> Option<Vec<T>> {
    if slots.len() < SLOTS_MAX {
        if slots.len() == slots.capacity() {
            // Most directories are small, and the others full: no capacity beyond the next power of two.
            slots.reserve_exact(slots.len().clamp(1, SLOTS_MAX - slots.len()));
        }
        slots.insert(at, item);
        return None;
    }
    if at == slots.len() {
        // Names often come in ascending order (queues, dates): leave full what will not change again.
        return Some(vec![item]);
    }
    let mut right = slots.split_off(SLOTS_MAX / 2);
    match at.checked_sub(slots.len()) {
        Some(at) if at > 0 => right.insert(at, item),
        _ => slots.insert(at, item),
    }
    Some(right)
}

fn remove(branch: &mut Arc<Branch>, slots: &[u8]) -> Child {
    let (slot, below) = slots.split_first().expect("a position leads to a leaf");
    let slot = usize::from(*slot);
    match Arc::make_mut(branch) {
        Branch::Leaf(children) => children.remove(slot),
        Branch::Inner(entries) => {
            let child = remove(&mut entries[slot].branch, below);
            join_if_few(entries, slot);
            child
        }
    }
}

/// After a removal below `entries[slot]`: drops that branch if it is empty, joins it if it is small.
fn join_if_few(entries: &mut Vec<Entry>, slot: usize) {
    let length = entries[slot].branch.len();
    if length == 0 {
        entries.remove(slot);
        if let Some(first) = entries.first_mut() {
            first.from = Separator::new();
        }
        return;
    }
    if length >= SLOTS_FEW {
        return;
    }
    let fits = |left: usize| {
        entries
            .get(left + 1)
            .is_some_and(|right| entries[left].branch.len() + right.branch.len() <= SLOTS_JOINED_MAX)
    };
    let left = match slot.checked_sub(1) {
        _ if fits(slot) => slot,
        Some(left) if fits(left) => left,
        _ => return,
    };
    let Entry { from, branch } = entries.remove(left + 1);
    let right = Arc::try_unwrap(branch).unwrap_or_else(|shared| Branch::clone(&shared));
    match (Arc::make_mut(&mut entries[left].branch), right) {
        (Branch::Leaf(children), Branch::Leaf(more)) => children.extend(more),
        (Branch::Inner(entries), Branch::Inner(mut more)) => {
            if let Some(first) = more.first_mut() {
                first.from = from;
            }
            entries.extend(more);
        }
        _ => unreachable!("branches side by side are of the same height"),
    }
}

impl Branch {
    fn len(&self) -> usize {
        match self {
            Branch::Leaf(children) => children.len(),
            Branch::Inner(entries) => entries.len(),
        }
    }
}

/// Iterates over children in order.
#[derive(Clone, Default)]
pub(crate) struct Iter<'a> {
    leaf: slice::Iter<'a, Child>,
    above: SmallVec<[slice::Iter<'a, Entry>; 2]>,
}

impl<'a> Iter<'a> {
    fn descend(&mut self, branch: &'a Branch) {
        match branch {
            Branch::Leaf(children) => self.leaf = children.iter(),
            Branch::Inner(entries) => self.above.push(entries.iter()),
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Child;

    fn next(&mut self) -> Option<&'a Child> {
        loop {
            if let Some(child) = self.leaf.next() {
                return Some(child);
            }
            match self.above.last_mut()?.next() {
                Some(entry) => self.descend(&entry.branch),
                None => drop(self.above.pop()),
            }
        }
    }
}

/// Unreachable children. They are freed step by step, so that the removal of a big directory does not delay the
/// writes after it; and without recursion, however deep they are.
#[derive(Default)]
pub(crate) struct Garbage(Vec<Arc<Branch>>);

impl Garbage {
    pub(crate) fn add(&mut self, children: Children) {
        self.0.extend(children.root);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Frees at most that many branches, each with up to [`SLOTS_MAX`] nodes.
    pub(crate) fn sweep(&mut self, branches_max: usize) {
        for _ in 0..branches_max {
            let Some(branch) = self.0.pop() else { return };
            // Another owner will free it.
            let Some(mut branch) = Arc::into_unique(branch) else { continue };
            match &mut *branch {
                Branch::Inner(entries) => self.0.extend(entries.drain(..).map(|entry| entry.branch)),
                Branch::Leaf(children) => {
                    for child in children.drain(..) {
                        if let Child::Dir(_, dir) = child
                            && let Some(mut dir) = Arc::into_unique(dir)
                        {
                            self.add(mem::take(&mut dir.children));
                        }
                    }
                }
            }
        }
    }
}

impl Drop for Garbage {
    fn drop(&mut self) {
        self.sweep(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::store::node::{Key, Meta};

    fn child(name: &str, index: u64) -> Child {
        Child::key(Key::new(
            name.as_bytes(),
            b"",
            Meta { modified: index, ..Meta::default() },
            &mut Vec::new(),
        ))
    }

    fn contents(children: &Children) -> Vec<(String, u64)> {
        let text = |child: &Child| String::from_utf8(child.name().to_vec()).unwrap();
        children.iter().map(|child| (text(child), child.meta().modified)).collect()
    }

    /// Panics unless all invariants hold.
    fn check(children: &Children) {
        fn walk(branch: &Branch, low: &[u8], high: Option<&[u8]>) -> usize {
            assert!((1..=SLOTS_MAX).contains(&branch.len()));
            match branch {
                Branch::Leaf(children) => {
                    assert!(children.is_sorted_by(|a, b| a.name() < b.name()));
                    assert!(children.first().unwrap().name() >= low);
                    assert!(high.is_none_or(|high| children.last().unwrap().name() < high));
                    1
                }
                Branch::Inner(entries) => {
                    assert!(entries[0].from.is_empty());
                    let heights: Vec<usize> = (0..entries.len())
                        .map(|slot| {
                            let low = if slot == 0 { low } else { &entries[slot].from };
                            let high = entries.get(slot + 1).map(|next| &*next.from).or(high);
                            walk(&entries[slot].branch, low, high)
                        })
                        .collect();
                    assert!(heights.windows(2).all(|pair| pair[0] == pair[1]));
                    heights[0] + 1
                }
            }
        }
        if let Some(root) = &children.root {
            let height = walk(root, b"", None);
            assert!(height == 1 || root.len() > 1, "a root with one branch");
        }
    }

    fn remove(children: &mut Children, name: &str) -> bool {
        let found = children.find(name.as_bytes());
        if let Ok(position) = found {
            assert_eq!(children.remove_at(&position).name(), name.as_bytes());
        }
        found.is_ok()
    }

    #[test]
    fn ascending_names_fill_their_branches() {
        let mut children = Children::default();
        for number in 0..10_000 {
            children.insert(child(&format!("{number:020}"), number));
        }
        check(&children);
        let Some(Branch::Inner(entries)) = children.root.as_deref() else { panic!("one leaf") };
        let Branch::Inner(leaves) = &*entries[0].branch else { panic!("two levels") };
        assert!(leaves.iter().all(|leaf| leaf.branch.len() == SLOTS_MAX));
    }

    #[test]
    fn a_small_directory_is_small() {
        let mut children = Children::default();
        children.insert(child("a", 1));
        let Some(Branch::Leaf(slots)) = children.root.as_deref() else { panic!("no leaf") };
        assert_eq!(slots.capacity(), 1);
        assert!(size_of::<Branch>() <= 32);
    }

    #[test]
    fn a_clone_shares_all_that_does_not_change() {
        let sorted = (0..5_000).map(|number| child(&format!("{number:05}"), 0)).collect();
        let mut children = Children::from_sorted(sorted);
        check(&children);
        let before = children.clone();
        children.insert(child("02500", 7));
        let branches = |children: &Children| -> Vec<*const Branch> {
            let mut all = Vec::new();
            let mut pending: Vec<&Arc<Branch>> = children.root.iter().collect();
            while let Some(branch) = pending.pop() {
                all.push(Arc::as_ptr(branch));
                if let Branch::Inner(entries) = &**branch {
                    pending.extend(entries.iter().map(|entry| &entry.branch));
                }
            }
            all.sort();
            all
        };
        let old = branches(&before);
        let copied = branches(&children).iter().filter(|branch| old.binary_search(branch).is_err()).count();
        assert_eq!(copied, 3, "the way from the root to a leaf");
        assert_eq!(before.get(b"02500").unwrap().meta().modified, 0);
        assert_eq!(children.get(b"02500").unwrap().meta().modified, 7);
        // The copies are not shared: the next write on that path copies nothing.
        let once = branches(&children);
        children.insert(child("02500", 8));
        assert_eq!(branches(&children), once);
    }

    #[test]
    fn garbage_is_swept_in_steps() {
        let sorted: Vec<Child> = (0..1_000).map(|number| child(&format!("{number:05}"), 0)).collect();
        let [Child::Key(_, first), Child::Key(_, last)] = [sorted[0].clone(), sorted[999].clone()] else {
            panic!("keys")
        };
        let mut garbage = Garbage::default();
        garbage.add(Children::from_sorted(sorted));
        garbage.sweep(1);
        assert_eq!(garbage.0.len(), 32, "the root opened");
        garbage.sweep(1);
        assert_eq!(garbage.0.len(), 31);
        assert!(first.is_shared() && !last.is_shared(), "one leaf is gone");
        drop(garbage);
        assert!(!first.is_shared());
    }

    #[test]
    fn iteration_goes_on_behind_any_name() {
        let names: Vec<String> = (0..3000).map(|number| format!("{:05}", number * 2)).collect();
        let children = Children::from_sorted(names.iter().map(|name| child(name, 1)).collect());
        for after in (0..6002).step_by(7).chain([0, 1, 5998, 5999, 6001]) {
            let name = format!("{after:05}");
            let rest: Vec<&[u8]> = children.iter_after(name.as_bytes()).map(Child::name).collect();
            let wanted: Vec<&[u8]> =
                names.iter().map(String::as_bytes).filter(|other| *other > name.as_bytes()).collect();
            assert!(rest == wanted, "behind {name}");
        }
        assert_eq!(children.iter_after(b"").count(), 3000);
        assert_eq!(Children::default().iter_after(b"a").count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn behaves_as_a_map(
            start in prop::collection::btree_set("[a-c]{0,3}", 0..200),
            steps in prop::collection::vec((any::<bool>(), "[a-d]{0,4}"), 0..600),
            image_at in 0..600usize,
        ) {
            let mut model: BTreeMap<String, u64> = start.into_iter().map(|name| (name, 0)).collect();
            let mut children = Children::from_sorted(model.keys().map(|name| child(name, 0)).collect());
            let mut image = None;
            for (number, (insert, name)) in steps.into_iter().enumerate() {
                if number == image_at {
                    image = Some((children.clone(), contents(&children)));
                }
                if insert {
                    children.insert(child(&name, number as u64));
                    model.insert(name, number as u64);
                } else {
                    prop_assert_eq!(remove(&mut children, &name), model.remove(&name).is_some());
                }
                check(&children);
            }
            let want: Vec<_> = model.into_iter().collect();
            prop_assert_eq!(contents(&children), want.clone());
            for (name, index) in &want {
                prop_assert_eq!(children.get(name.as_bytes()).unwrap().meta().modified, *index);
            }
            if let Some((image, as_it_was)) = image {
                check(&image);
                prop_assert_eq!(contents(&image), as_it_was);
            }
        }

        #[test]
        fn grows_and_shrinks(seed: u64) {
            // Thousands of names in a scrambled order, so that all levels are split and joined.
            let scrambled = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (seed << 1 | 1)) >> 20;
            let mut children = Children::default();
            for number in 0..4_000 {
                children.insert(child(&scrambled(number).to_string(), number));
            }
            check(&children);
            for number in 0..4_000 {
                prop_assert!(remove(&mut children, &scrambled(number).to_string()));
                if number % 97 == 0 {
                    check(&children);
                }
            }
            prop_assert!(children.is_empty());
        }
    }
}
