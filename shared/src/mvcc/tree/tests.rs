//! The tree against an ordered map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A value that is present if it is even, and has something to remove if it is a multiple of 3.
impl Weighed for u64 {
    fn weight(&self) -> Weight {
        Weight {
            live: u64::from(self.is_multiple_of(2)),
            spare: u64::from(self.is_multiple_of(3)),
            newest: *self,
        }
    }
}

/// Counts through the weights, as far as they reach.
#[derive(Default)]
struct Live {
    found: u64,
    subtrees: usize,
}

impl Visitor<u64> for Live {
    fn pass_over(&mut self, weight: Weight, whole: bool) -> bool {
        if whole {
            self.found += weight.live;
            self.subtrees += 1;
        }
        whole
    }

    fn entry(&mut self, _: &[u8], value: &u64) -> ControlFlow<()> {
        self.found += value.weight().live;
        ControlFlow::Continue(())
    }
}

fn check(tree: &Tree<u64>, model: &BTreeMap<Vec<u8>, u64>) {
    let entries: Vec<(&[u8], u64)> = tree.range(b"", None).map(|(key, value)| (key, *value)).collect();
    let wanted: Vec<(&[u8], u64)> = model.iter().map(|(key, value)| (&key[..], *value)).collect();
    assert_eq!(entries, wanted);
    assert_eq!(tree.len(), model.len());
    assert_eq!(tree.is_empty(), model.is_empty());
    let mut weight = Weight::default();
    model.values().for_each(|value| weight.add(value.weight()));
    let ours = tree.weight();
    assert_eq!((ours.live, ours.spare), (weight.live, weight.spare));
    assert!(ours.newest >= weight.newest);
    if let Some(root) = &tree.root {
        check_node(root);
    }
}

/// Checks the bounds of a node and the weights of its children; its height.
fn check_node(node: &Node<u64>) -> usize {
    assert!((1..=SLOTS_MAX).contains(&node.len()));
    match node {
        Node::Leaf(leaf) => {
            let used: usize = leaf.slots.iter().map(|slot| slot.len as usize).sum();
            assert!(used * 2 >= leaf.bytes.len());
            let longest = leaf.slots.iter().map(|slot| slot.len as usize).max().unwrap_or_default();
            assert!(used <= KEY_BYTES_MAX + 2 * longest);
            0
        }
        Node::Inner(children) => {
            let heights: Vec<usize> = children.iter().map(|child| check_node(&child.node)).collect();
            assert!(heights.iter().all(|height| *height == heights[0]));
            for child in children {
                let weight = child.node.weight();
                assert_eq!((weight.live, weight.spare), (child.weight.live, child.weight.spare));
                assert!(child.weight.newest >= weight.newest);
            }
            heights[0] + 1
        }
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0..1000_u32).prop_map(|number| format!("key/{number:04}").into_bytes()),
        2 => "[ab]{0,6}".prop_map(String::into_bytes),
        1 => (0..20_usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length * 300]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_an_ordered_map(
        inserts in prop::collection::vec((key(), 1..1000_u64), 0..600),
        removals in prop::collection::vec(any::<prop::sample::Index>(), 0..600),
        later in prop::collection::vec((key(), 1..1000_u64), 0..100),
        (from, to) in (key(), key()),
        in_order in any::<bool>(),
    ) {
        let mut tree = Tree::default();
        let mut model = BTreeMap::new();
        let mut inserts = inserts;
        if in_order {
            inserts.sort();
        }
        for (key, value) in &inserts {
            tree.insert(key, *value);
            model.insert(key.clone(), *value);
        }
        check(&tree, &model);
        let (kept, kept_model) = (tree.clone(), model.clone());
        if !inserts.is_empty() {
            for index in removals {
                let (key, _) = index.get(&inserts);
                tree.remove(key);
                model.remove(key);
            }
        }
        check(&tree, &model);
        for (key, value) in &later {
            tree.upsert(key, *value, |old, new| *old += new);
            model.entry(key.clone()).and_modify(|old| *old += value).or_insert(*value);
            prop_assert_eq!(tree.get(key), model.get(key));
        }
        check(&tree, &model);
        check(&kept, &kept_model);
        let wanted: Vec<(&[u8], u64)> = model
            .iter()
            .filter(|(key, _)| **key >= from && **key < to)
            .map(|(key, value)| (&key[..], *value))
            .collect();
        let ours: Vec<(&[u8], u64)> = tree.range(&from, Some(&to)).map(|(key, value)| (key, *value)).collect();
        prop_assert_eq!(&ours, &wanted);
        let mut live = Live::default();
        let _ = tree.visit(&from, Some(&to), &mut live);
        prop_assert_eq!(live.found, wanted.iter().map(|(_, value)| value.weight().live).sum::<u64>());
    }
}

#[test]
fn keys_in_order_fill_their_leaves() {
    let mut tree = Tree::default();
    for number in 0..10_000_u64 {
        tree.insert(format!("{number:08}").as_bytes(), number);
    }
    let mut live = Live::default();
    let _ = tree.visit(b"00000001", Some(b"00009999"), &mut live);
    assert_eq!(live.found, 4_999);
    assert!(live.subtrees < 100, "{} subtrees were looked at", live.subtrees);
    let Some(Node::Inner(children)) = tree.root.as_deref() else { panic!("a small tree") };
    assert!(children.len() <= 10_000 / SLOTS_MAX / SLOTS_MAX + 1, "{} children", children.len());
}
