//! Which of a peer's URLs to use.

use parking_lot::Mutex;
use shared::id::MemberId;
use shared::url::{Url, Urls};

use crate::log;

/// A peer's URLs, of which one is used until it fails.
#[derive(Debug)]
pub(super) struct Picker(Mutex<Picked>);

#[derive(Debug)]
struct Picked {
    urls: Vec<Url>,
    at: usize,
}

impl Picker {
    /// Of these URLs, in their order by text.
    pub(super) fn new(id: MemberId, urls: &[String]) -> Picker {
        Picker(Mutex::new(Picked { urls: parse(id, urls), at: 0 }))
    }

    /// Forgets the URLs so far.
    pub(super) fn update(&self, id: MemberId, urls: &[String]) {
        *self.0.lock() = Picked { urls: parse(id, urls), at: 0 };
    }

    /// The URL to use now. `None` if the peer has none that can be used.
    pub(super) fn pick(&self) -> Option<Url> {
        let picked = self.0.lock();
        picked.urls.get(picked.at).cloned()
    }

    /// It did not work: the next one is to be used, unless somebody has found that out already.
    pub(super) fn failed(&self, url: &Url) {
        let mut picked = self.0.lock();
        if picked.urls.get(picked.at) == Some(url) {
            picked.at = (picked.at + 1) % picked.urls.len();
        }
    }
}

fn parse(id: MemberId, urls: &[String]) -> Vec<Url> {
    match Urls::from_texts(urls.iter().map(String::as_str)) {
        Ok(urls) => urls.iter().cloned().collect(),
        Err(error) => {
            log::error!("rafthttp", "the peer {id} cannot be reached: its URLs are of no use ({error})");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_moves_to_the_next_url_once() {
        let picker = Picker::new(MemberId(1), &["http://b:1".to_owned(), "http://a:1".to_owned()]);
        let first = picker.pick().unwrap();
        assert_eq!(first.as_str(), "http://a:1");
        picker.failed(&first);
        picker.failed(&first);
        let second = picker.pick().unwrap();
        assert_eq!(second.as_str(), "http://b:1");
        picker.failed(&second);
        assert_eq!(picker.pick(), Some(first));
        picker.update(MemberId(1), &["nonsense".to_owned()]);
        assert_eq!(picker.pick(), None);
    }
}
