//! The store against a simple model, over random commands: a flat map from paths to nodes, a list of all
//! events, and for each watcher the plain rule of what it gets.

#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use shared::error::{ApiError, Code};
use shared::event::{Action, Event, NodeView};
use shared::store::{Store, Watcher};
use shared::time::UnixNanos;
use shared::v2::{Request, Verb};

const HISTORY_LENGTH: usize = 12;
const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_700_000_000 * SECOND;

#[derive(Debug, Clone, PartialEq)]
struct Node {
    /// `None` for a directory.
    value: Option<String>,
    created: u64,
    modified: u64,
    expiration: Option<i64>,
}

/// An event without what only its rendering needs.
#[derive(Debug, Clone)]
struct Happened {
    index: u64,
    action: Action,
    path: String,
    refresh: bool,
    prev: Option<Node>,
    node: Node,
    /// All paths that went away with it.
    removed: Vec<String>,
}

struct ModelWatcher {
    path: String,
    recursive: bool,
    stream: bool,
    since: u64,
    got: Vec<(u64, Action)>,
    closed: bool,
}

struct Model {
    nodes: BTreeMap<String, Node>,
    index: u64,
    events: Vec<Happened>,
    watchers: Vec<ModelWatcher>,
}

type Refusal = (Code, String);

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).filter(|above| !above.is_empty())
}

fn is_below(above: &str, path: &str) -> bool {
    path.strip_prefix(above.trim_end_matches('/')).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

fn hidden_below(above: &str, path: &str) -> bool {
    path[above.trim_end_matches('/').len()..].contains("/_")
}

impl Happened {
    fn removed_dir(&self) -> bool {
        matches!(self.action, Action::Delete | Action::Expire)
            && self.prev.as_ref().is_some_and(|prev| prev.value.is_none())
    }
}

impl ModelWatcher {
    /// How often a watcher that is there gets an event.
    fn times(&self, event: &Happened) -> usize {
        if event.refresh || event.index < self.since {
            return 0;
        }
        let as_removed = event.removed.contains(&self.path);
        let itself = event.path == self.path;
        let below =
            self.recursive && is_below(&self.path, &event.path) && !hidden_below(&self.path, &event.path);
        usize::from(as_removed) + usize::from(itself || below)
    }

    fn hear(&mut self, event: &Happened) {
        let times = if self.closed { 0 } else { self.times(event) };
        let times = if self.stream { times } else { times.min(1) };
        self.got.extend(std::iter::repeat_n((event.index, event.action), times));
        self.closed |= times > 0 && !self.stream;
    }
}

impl Model {
    fn new() -> Model {
        let root = Node { value: None, created: 0, modified: 0, expiration: None };
        let nodes = ["/0", "/1"].map(|path| (path.to_owned(), root.clone()));
        Model { nodes: nodes.into(), index: 0, events: Vec::new(), watchers: Vec::new() }
    }

    /// The node at a path, or why there is none.
    fn find(&self, path: &str) -> Result<Node, Refusal> {
        for above in parents(path) {
            match self.nodes.get(above) {
                None => return Err((Code::KeyNotFound, above.to_owned())),
                Some(Node { value: Some(_), .. }) => return Err((Code::NotDir, above.to_owned())),
                Some(_) => {}
            }
        }
        self.nodes.get(path).cloned().ok_or_else(|| (Code::KeyNotFound, path.to_owned()))
    }

    fn happened(&mut self, event: Happened) {
        self.index = event.index;
        for watcher in &mut self.watchers {
            watcher.hear(&event);
        }
        self.events.push(event);
    }

    fn make(
        &mut self,
        action: Action,
        path: &str,
        value: Option<&str>,
        expiration: Option<i64>,
        refresh: bool,
    ) -> Result<(), Refusal> {
        let found = self.find(path);
        let refresh = refresh && action == Action::Set;
        let (prev, mut value) = match found {
            Err((Code::KeyNotFound, _)) if !refresh => (None, value.map(str::to_owned)),
            Err(refusal) => return Err(refusal),
            Ok(_) if action == Action::Create => return Err((Code::NodeExist, path.to_owned())),
            Ok(Node { value: None, .. }) => return Err((Code::NotFile, path.to_owned())),
            Ok(prev) => (Some(prev), value.map(str::to_owned)),
        };
        if refresh && value.is_some() {
            value = prev.as_ref().and_then(|prev| prev.value.clone());
        }
        let index = self.index + 1;
        for above in parents(path) {
            let dir = Node { value: None, created: index, modified: index, expiration: None };
            self.nodes.entry(above.to_owned()).or_insert(dir);
        }
        let node = Node { value, created: index, modified: index, expiration };
        self.nodes.insert(path.to_owned(), node.clone());
        let path = path.to_owned();
        self.happened(Happened { index, action, path, refresh, prev, node, removed: Vec::new() });
        Ok(())
    }

    fn compare(node: &Node, prev_value: &str, prev_index: u64) -> Result<(), Refusal> {
        let value = node.value.as_deref().unwrap_or_default();
        let mut causes = Vec::new();
        if !prev_value.is_empty() && prev_value != value {
            causes.push(format!("[{prev_value} != {value}]"));
        }
        if prev_index != 0 && prev_index != node.modified {
            causes.push(format!("[{prev_index} != {}]", node.modified));
        }
        if causes.is_empty() { Ok(()) } else { Err((Code::CompareFailed, causes.join(" "))) }
    }

    fn change(
        &mut self,
        path: &str,
        compare: Option<(&str, u64)>,
        value: &str,
        expiration: Option<i64>,
        refresh: bool,
    ) -> Result<(), Refusal> {
        let prev = self.find(path)?;
        let is_dir = prev.value.is_none();
        if is_dir && (compare.is_some() || !value.is_empty()) {
            return Err((Code::NotFile, path.to_owned()));
        }
        if let Some((prev_value, prev_index)) = compare {
            Model::compare(&prev, prev_value, prev_index)?;
        }
        let index = self.index + 1;
        let mut node = Node { expiration, ..prev.clone() };
        if !is_dir {
            node.modified = index;
            node.value = if refresh { node.value } else { Some(value.to_owned()) };
        }
        self.nodes.insert(path.to_owned(), node.clone());
        node.modified = index;
        let action = if compare.is_some() { Action::CompareAndSwap } else { Action::Update };
        let path = path.to_owned();
        self.happened(Happened { index, action, path, refresh, prev: Some(prev), node, removed: Vec::new() });
        Ok(())
    }

    fn remove(&mut self, action: Action, path: &str) {
        let gone = |other: &str| other == path || is_below(path, other);
        let removed: Vec<String> = self.nodes.keys().filter(|other| gone(other)).cloned().collect();
        let prev = self.nodes[path].clone();
        self.nodes.retain(|other, _| !gone(other));
        let index = self.index + 1;
        let node = Node { value: None, created: prev.created, modified: index, expiration: None };
        let path = path.to_owned();
        self.happened(Happened { index, action, path, refresh: false, prev: Some(prev), node, removed });
    }

    fn delete(&mut self, path: &str, dir: bool, recursive: bool) -> Result<(), Refusal> {
        let node = self.find(path)?;
        let has_children = self.nodes.keys().any(|other| is_below(path, other));
        match node.value {
            None if !dir && !recursive => return Err((Code::NotFile, path.to_owned())),
            None if has_children && !recursive => return Err((Code::DirNotEmpty, path.to_owned())),
            _ => self.remove(Action::Delete, path),
        }
        Ok(())
    }

    fn compare_and_delete(&mut self, path: &str, prev_value: &str, prev_index: u64) -> Result<(), Refusal> {
        let node = self.find(path)?;
        if node.value.is_none() {
            return Err((Code::NotFile, path.to_owned()));
        }
        Model::compare(&node, prev_value, prev_index)?;
        self.remove(Action::CompareAndDelete, path);
        Ok(())
    }

    fn expire(&mut self, cutoff: i64) {
        loop {
            let due = self.nodes.iter().filter_map(|(path, node)| {
                let expiration = node.expiration.filter(|at| *at <= cutoff)?;
                Some((expiration, node.created, path.clone()))
            });
            let Some((_, _, path)) = due.min() else { return };
            self.remove(Action::Expire, &path);
        }
    }

    fn apply(&mut self, request: &Request) -> Result<(), Refusal> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let [path, val, prev_value] =
            [&request.path, &request.val, &request.prev_value].map(|part| text(part));
        let expiration = (request.expiration != 0).then_some(request.expiration);
        let refresh = request.refresh == Some(true);
        let compares = request.prev_index > 0 || !prev_value.is_empty();
        let value = (!request.dir).then_some(val.as_str());
        match (request.verb, request.prev_exist) {
            (Verb::Sync, _) => self.expire(request.time),
            (Verb::QuorumGet, _) => return self.find(&path).map(drop),
            (Verb::Post, _) => {
                let path = format!("{path}/{:020}", self.index + 1);
                return self.make(Action::Create, &path, value, expiration, refresh);
            }
            (Verb::Put, Some(false)) => return self.make(Action::Create, &path, value, expiration, refresh),
            (Verb::Put, _) if compares => {
                let compare = Some((prev_value.as_str(), request.prev_index));
                return self.change(&path, compare, &val, expiration, refresh);
            }
            (Verb::Put, Some(true)) => return self.change(&path, None, &val, expiration, refresh),
            (Verb::Put, None) => return self.make(Action::Set, &path, value, expiration, refresh),
            (Verb::Delete, _) if compares => {
                return self.compare_and_delete(&path, &prev_value, request.prev_index);
            }
            (Verb::Delete, _) => return self.delete(&path, request.dir, request.recursive),
        }
        Ok(())
    }

    fn watch(&mut self, path: &str, recursive: bool, stream: bool, since: u64) -> Result<(), Refusal> {
        let path = path.to_owned();
        let since = if since == 0 { self.index + 1 } else { since };
        let kept = &self.events[self.events.len().saturating_sub(HISTORY_LENGTH)..];
        let start = kept.first().map_or(0, |event| event.index);
        if since < start {
            let cause = format!("the requested history has been cleared [{start}/{since}]");
            return Err((Code::EventIndexCleared, cause));
        }
        let mut watcher = ModelWatcher { path, recursive, stream, since, got: Vec::new(), closed: false };
        for event in kept.iter().filter(|event| event.index >= since) {
            let wanted = if watcher.got.is_empty() {
                // Hidden or not, and by any path that begins like that of a directory that went away.
                let path = &watcher.path;
                event.path == *path
                    || recursive && is_below(path, &event.path)
                    || event.removed_dir() && path.starts_with(&event.path)
            } else {
                stream
                    && (watcher.times(event) > 0
                        || event.removed_dir() && is_below(&event.path, &watcher.path))
            };
            if wanted && !event.refresh {
                watcher.got.push((event.index, event.action));
            }
        }
        watcher.closed = !stream && !watcher.got.is_empty();
        self.watchers.push(watcher);
        Ok(())
    }
}

/// All nodes of a store with their paths.
fn nodes(store: &Store) -> BTreeMap<String, Node> {
    fn walk(path: String, view: NodeView<'_>, all: &mut BTreeMap<String, Node>) {
        for child in view.children() {
            walk(format!("{path}/{}", str::from_utf8(child.name()).unwrap()), child, all);
        }
        if !path.is_empty() {
            all.insert(path, node(view));
        }
    }
    let event = store.get(b"/", true, true).unwrap();
    let mut all = BTreeMap::new();
    walk(String::new(), event.node(), &mut all);
    all
}

fn node(view: NodeView<'_>) -> Node {
    Node {
        value: view.value().map(|value| String::from_utf8(value.to_vec()).unwrap()),
        created: view.created_index(),
        modified: view.modified_index(),
        expiration: view.expiration().map(|at| at.0),
    }
}

fn image(store: &Store) -> Vec<u8> {
    let mut json = Vec::new();
    store.image().write_json(&mut json).unwrap();
    json
}

fn check_answer(answer: &Result<Event, ApiError>, want: Result<(), Refusal>, model: &Model, before: u64) {
    match (answer, want) {
        (Err(error), Err((code, cause))) => {
            assert_eq!((error.code, str::from_utf8(&error.cause).unwrap()), (code, cause.as_str()));
            assert_eq!(error.index, before);
        }
        (Ok(event), Ok(())) => {
            assert_eq!(event.index, model.index);
            // Reads and SYNC make no event, or others than their answer.
            if event.action == Action::Get {
                return;
            }
            let want = model.events.last().unwrap();
            assert_eq!((event.action, event.key()), (want.action, want.path.as_bytes()));
            assert_eq!(node(event.node()), want.node);
            assert_eq!(event.prev().map(node), want.prev);
            assert_eq!(event.refresh, want.refresh);
        }
        (answer, want) => panic!("got {answer:?}, want {want:?}"),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Request),
    /// Path, recursive, stream, how long ago.
    Watch(String, bool, bool, Option<u64>),
    /// Drops the watcher of that number.
    Leave(usize),
    Image,
}

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "ab", "_h", "c"]);
    prop::collection::vec(name, 1..4).prop_map(|names| format!("/1/{}", names.join("/")))
}

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["x", "y", "", "<&>"]).prop_map(str::to_owned)
}

/// Nanoseconds after the start, far enough apart to be told from each other.
fn expiration() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0), 1 => (1..60_i64).prop_map(|tenth| START + tenth * SECOND / 10)]
}

fn request() -> impl Strategy<Value = Request> {
    let verb = prop::sample::select(vec![
        Verb::Put,
        Verb::Put,
        Verb::Put,
        Verb::Put,
        Verb::Post,
        Verb::Delete,
        Verb::Delete,
        Verb::QuorumGet,
    ]);
    let booleans = (
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.5),
        prop_oneof![5 => Just(None), 1 => Just(Some(false)), 2 => Just(Some(true))],
        prop_oneof![4 => Just(None), 1 => Just(Some(true))],
    );
    let compared =
        (prop_oneof![3 => Just(String::new()), 1 => value()], prop_oneof![4 => Just(0), 1 => 1..20_u64]);
    (verb, path(), value(), expiration(), booleans, compared).prop_map(
        |(verb, path, val, expiration, (dir, recursive, prev_exist, refresh), (prev_value, prev_index))| {
            Request {
                verb,
                path: path.into(),
                val: val.into(),
                dir,
                prev_value: prev_value.into(),
                prev_index,
                prev_exist,
                expiration,
                recursive,
                refresh,
                ..Request::default()
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let sync = (0..60_i64).prop_map(|tenth| {
        let time = START + tenth * SECOND / 10;
        Step::Apply(Request { verb: Verb::Sync, time, ..Request::default() })
    });
    let watched = prop_oneof![
        4 => path(),
        1 => Just("/".to_owned()),
        1 => Just("/1".to_owned()),
        1 => Just("/1/a".to_owned())
    ];
    let ago = prop_oneof![2 => Just(None), 1 => (0..16_u64).prop_map(Some)];
    prop_oneof![
        10 => request().prop_map(Step::Apply),
        1 => sync,
        3 => (watched, any::<bool>(), any::<bool>(), ago).prop_map(|(path, recursive, stream, ago)| {
            Step::Watch(path, recursive, stream, ago)
        }),
        1 => (0..8_usize).prop_map(Step::Leave),
        1 => Just(Step::Image),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn behaves_as_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let now = UnixNanos(START);
        let mut store = Store::new(HISTORY_LENGTH);
        let mut model = Model::new();
        let mut watchers: Vec<Watcher> = Vec::new();
        let mut images = Vec::new();
        for step in steps {
            match step {
                Step::Apply(request) => {
                    let before = model.index;
                    let want = model.apply(&request);
                    check_answer(&store.apply(&request, now), want, &model, before);
                }
                Step::Watch(path, recursive, stream, ago) => {
                    let since = ago.map_or(0, |ago| model.index.saturating_sub(ago));
                    let want = model.watch(&path, recursive, stream, since);
                    match (store.watch(path.as_bytes(), recursive, stream, since), want) {
                        (Ok(watcher), Ok(())) => {
                            prop_assert_eq!(watcher.start_index(), model.index);
                            watchers.push(watcher);
                        }
                        (Err(error), Err((code, cause))) => {
                            prop_assert_eq!(&error, &ApiError::new(code, cause, model.index));
                        }
                        (_, want) => panic!("the store and the model differ: {want:?}"),
                    }
                }
                Step::Leave(number) if number < watchers.len() => {
                    watchers.remove(number);
                    model.watchers.remove(number);
                }
                Step::Leave(_) => {}
                Step::Image => images.push((store.image(), image(&store))),
            }
            prop_assert_eq!(store.index(), model.index);
            for (watcher, want) in watchers.iter_mut().zip(&mut model.watchers) {
                let got: Vec<_> = std::iter::from_fn(|| watcher.try_next())
                    .map(|event| (event.node().modified_index(), event.action))
                    .collect();
                prop_assert_eq!(&got, &std::mem::take(&mut want.got), "{} {}", want.path, want.recursive);
                prop_assert_eq!(watcher.is_closed(), want.closed);
            }
            let waiting = model.watchers.iter().filter(|watcher| !watcher.closed).count();
            prop_assert_eq!(store.watchers(), waiting as u64);
        }
        prop_assert_eq!(nodes(&store), model.nodes.clone());
        prop_assert_eq!(store.has_expiring(), model.nodes.values().any(|node| node.expiration.is_some()));

        // Later writes did not touch the images.
        for (image, as_it_was) in images {
            let mut json = Vec::new();
            image.write_json(&mut json).unwrap();
            prop_assert_eq!(json, as_it_was);
        }

        // A recovered store is the same and goes on alike.
        let json = image(&store);
        let mut recovered = Store::recover(&json, HISTORY_LENGTH).unwrap();
        prop_assert_eq!(image(&recovered), json);
        let sync = Request { verb: Verb::Sync, time: START + 3 * SECOND, ..Request::default() };
        for store in [&mut store, &mut recovered] {
            store.apply(&sync, now).unwrap();
        }
        prop_assert_eq!(image(&recovered), image(&store));
    }
}
