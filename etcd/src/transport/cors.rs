//! Cross-origin requests: which web pages may read responses.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN,
};
use http::{HeaderMap, HeaderValue};

const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("accept, content-type, authorization");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// The origins of `-cors`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cors {
    any: bool,
    origins: Vec<HeaderValue>,
}

impl Cors {
    /// Allows these origins, compared byte for byte; `*` allows all. An origin that is not a valid header value never
    /// matches.
    pub(crate) fn new<S: AsRef<str>>(origins: impl IntoIterator<Item = S>) -> Cors {
        let mut cors = Cors::default();
        for origin in origins {
            match origin.as_ref().trim() {
                "" => {}
                "*" => cors.any = true,
                origin => cors.origins.extend(HeaderValue::from_str(origin)),
            }
        }
        cors
    }

    /// Whether all origins are allowed.
    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// Whether the list contains this origin.
    pub(super) fn names(&self, origin: &HeaderValue) -> bool {
        self.origins.contains(origin)
    }

    /// Whether some page of another origin may read a response.
    pub(crate) fn allows_any(&self) -> bool {
        self.any || !self.origins.is_empty()
    }

    /// The value of `Access-Control-Allow-Origin` for a request with these headers; `None` if the header is omitted.
    pub(crate) fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if self.any {
            return Some(ANY);
        }
        if self.origins.is_empty() {
            return None;
        }
        let origin = request.get(ORIGIN)?;
        self.origins.contains(origin).then(|| origin.clone())
    }
}

/// Adds the headers that allow `origin` to read the response.
pub(crate) fn allow(origin: HeaderValue, answer: &mut HeaderMap) {
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(cors: &Cors, origin: &'static str) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        cors.allowed(&headers)
    }

    #[test]
    fn a_list_is_compared_exactly() {
        let cors = Cors::new(["http://a.example:80", " http://b.example:80"]);
        for origin in ["http://a.example:80", "http://b.example:80"] {
            assert_eq!(allowed(&cors, origin), Some(HeaderValue::from_static(origin)));
        }
        assert_eq!(allowed(&cors, "HTTP://A.EXAMPLE:80"), None);
        assert_eq!(cors.allowed(&HeaderMap::new()), None);
    }

    #[test]
    fn a_star_allows_all_and_nothing_allows_none() {
        assert_eq!(Cors::new(["*"]).allowed(&HeaderMap::new()), Some(ANY));
        assert_eq!(allowed(&Cors::default(), "http://a.example"), None);
    }
}
