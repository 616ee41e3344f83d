//! The children of a directory.

use super::node::Child;

/// The children of a directory.
#[derive(Clone, Default)]
pub(crate) struct Children(Vec<Child>);

impl Children {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Child> {
        self.0.iter()
    }
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Child> {
        self.0.iter().find(|c| c.name() == name)
    }
}
