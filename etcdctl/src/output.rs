//! All output, in the formats of etcdctl 2.3.8.

use std::io::{self, BufWriter, Stdout, Write};

use shared::client::{Node, Response};
use shared::json;

use crate::error::CliError;

/// The format of an answer of the keys API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// The value alone.
    Simple,
    /// The fields of the node, like mail headers, then the value.
    Extended,
    /// One line of JSON.
    Json,
    /// Any other name: an error when there is an answer to print.
    Unknown(String),
}

impl Format {
    /// Reads the value of `--output`.
    pub(crate) fn new(name: &str) -> Format {
        match name {
            "simple" => Format::Simple,
            "extended" => Format::Extended,
            "json" => Format::Json,
            other => Format::Unknown(other.to_owned()),
        }
    }

    /// Checks the format, for commands that print nothing but the answer.
    ///
    /// # Errors
    /// [`CliError::Format`] for a format that does not exist.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        if let Format::Unknown(name) = self { Err(CliError::Format(name.clone())) } else { Ok(()) }
    }
}

/// Buffered standard output, and unbuffered standard error.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    /// The exit status is a verdict, which does not depend on whether anybody reads why.
    outlives_reader: bool,
}

impl Output {
    /// The streams of this process.
    pub(crate) fn new() -> Output {
        Output { stdout: BufWriter::new(io::stdout()), outlives_reader: false }
    }

    /// From now on a closed pipe does not end the command: it goes on to its verdict.
    pub(crate) fn outlive_reader(&mut self) {
        self.outlives_reader = true;
    }

    fn unless_reader_left(&self, written: io::Result<()>) -> Result<(), CliError> {
        match written {
            Err(error) if self.outlives_reader && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }

    /// Writes the buffer out.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        let flushed = self.stdout.flush();
        self.unless_reader_left(flushed)
    }

    /// Prints a line on standard output.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), CliError> {
        let written = writeln!(self.stdout, "{line}");
        self.unless_reader_left(written)
    }

    /// Prints text, which has its own newlines, on standard output.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CliError> {
        let written = self.stdout.write_all(text.as_bytes());
        self.unless_reader_left(written)
    }

    /// Prints bytes on standard output.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let written = self.stdout.write_all(bytes);
        self.unless_reader_left(written)
    }

    /// Prints an answer of the keys API.
    ///
    /// # Errors
    /// [`CliError::Format`] for a format that does not exist.
    pub(crate) fn response(&mut self, response: &Response, format: &Format) -> Result<(), CliError> {
        format.check()?;
        let mut text = Vec::new();
        render(response, format, &mut text)?;
        Ok(self.stdout.write_all(&text)?)
    }

    /// Prints the contents of a directory, one path a line; with `slashes`, directories end with a slash.
    pub(crate) fn listing(&mut self, node: &Node, slashes: bool) -> Result<(), CliError> {
        if !node.dir {
            self.line(&node.key)?;
        }
        self.nodes(node.nodes.as_deref().unwrap_or_default(), slashes)
    }

    fn nodes(&mut self, nodes: &[Node], slashes: bool) -> Result<(), CliError> {
        for node in nodes {
            let slash = if slashes && node.dir { "/" } else { "" };
            writeln!(self.stdout, "{}{slash}", node.key)?;
            self.nodes(node.nodes.as_deref().unwrap_or_default(), slashes)?;
        }
        Ok(())
    }

    /// Prints text on standard error, after flushing standard output.
    pub(crate) fn note(&mut self, text: &str) -> Result<(), CliError> {
        self.flush()?;
        note(text);
        Ok(())
    }

    /// Prints an error.
    pub(crate) fn failure(&mut self, error: &CliError) -> Result<(), CliError> {
        match error {
            CliError::Usage { reason, help } => {
                self.text(&format!("Incorrect Usage.\n\n{reason}\n\n{help}"))?;
            }
            CliError::Unpublished { endpoints, .. } => self.note(&format!(
                "etcd cluster has no published client endpoints.\n\
                 Try '--no-sync' if you want to access non-published client endpoints({}).\n\
                 Error:  {error}\n",
                endpoints.join(",")
            ))?,
            CliError::Unreachable(cause) | CliError::Server(cause) => {
                // An empty line follows the list of endpoints, as in the original.
                let detail = cause.detail().map(|detail| format!("{detail}\n")).unwrap_or_default();
                self.note(&format!("Error:  {error}\n{detail}"))?;
            }
            CliError::Format(name) => self.note(&format!(
                "Unsupported output format: {name}\nhint: the formats are simple, extended and json\n"
            ))?,
            CliError::BadArguments(_) => self.note(&format!("Error:  {error}\n"))?,
            // The pipe is closed.
            CliError::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            CliError::Failed(_) | CliError::Output(_) => self.note(&format!("{error}\n"))?,
            CliError::NoTopic
            | CliError::Printed
            | CliError::Unhealthy
            | CliError::LockLost
            | CliError::Status(_) => {}
        }
        self.flush()
    }
}

/// Prints text on standard error. A closed standard error is ignored.
pub(crate) fn note(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn render(response: &Response, format: &Format, out: &mut Vec<u8>) -> io::Result<()> {
    let Response { action, node, prev_node, index } = response;
    let deleted = action == "delete";
    match format {
        Format::Simple if deleted => {
            let value = prev_node.as_ref().map_or("", |node| node.value.as_str());
            writeln!(out, "PrevNode.Value: {value}")
        }
        Format::Simple => writeln!(out, "{}", node.value),
        Format::Extended => {
            writeln!(out, "Key: {}", node.key)?;
            writeln!(out, "Created-Index: {}", node.created_index)?;
            writeln!(out, "Modified-Index: {}", node.modified_index)?;
            if let Some(before) = prev_node {
                writeln!(out, "PrevNode.Value: {}", before.value)?;
            }
            writeln!(out, "TTL: {}", node.ttl)?;
            writeln!(out, "Index: {index}")?;
            if deleted { Ok(()) } else { writeln!(out, "\n{}", node.value) }
        }
        Format::Json => {
            out.extend(json::to_vec(response)?);
            out.push(b'\n');
            Ok(())
        }
        Format::Unknown(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(action: &str) -> Response {
        let node = |value: &str, index| Node {
            key: "/a".into(),
            value: value.into(),
            created_index: 3,
            modified_index: index,
            ..Node::default()
        };
        Response { action: action.into(), node: node("new", 5), prev_node: Some(node("old", 4)), index: 9 }
    }

    fn rendered(response: &Response, format: Format) -> String {
        let mut out = Vec::new();
        render(response, &format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn simple_is_the_value_and_of_what_is_gone_the_old_one() {
        assert_eq!(rendered(&response("set"), Format::Simple), "new\n");
        assert_eq!(rendered(&response("delete"), Format::Simple), "PrevNode.Value: old\n");
        assert_eq!(rendered(&response("compareAndDelete"), Format::Simple), "new\n");
        let unknown = Response { prev_node: None, ..response("delete") };
        assert_eq!(rendered(&unknown, Format::Simple), "PrevNode.Value: \n");
    }

    #[test]
    fn extended_is_a_head_and_the_value() {
        let head = "Key: /a\nCreated-Index: 3\nModified-Index: 5\n";
        assert_eq!(
            rendered(&response("set"), Format::Extended),
            format!("{head}PrevNode.Value: old\nTTL: 0\nIndex: 9\n\nnew\n")
        );
        assert_eq!(
            rendered(&response("delete"), Format::Extended),
            format!("{head}PrevNode.Value: old\nTTL: 0\nIndex: 9\n")
        );
        let created = Response { prev_node: None, ..response("create") };
        assert_eq!(rendered(&created, Format::Extended), format!("{head}TTL: 0\nIndex: 9\n\nnew\n"));
    }

    #[test]
    fn json_is_escaped_as_go_does() {
        let mut response = response("set");
        response.prev_node = None;
        response.node.value = "<&> \"q\" \\ é\t\n\r\u{8}\u{c}\u{1}\u{2028}/".into();
        assert_eq!(
            rendered(&response, Format::Json),
            concat!(
                r#"{"action":"set","node":{"key":"/a","value":"\u003c\u0026\u003e \"q\" \\ é\t\n\r\u0008\u000c"#,
                r#"\u0001\u2028/","nodes":null,"createdIndex":3,"modifiedIndex":5},"prevNode":null}"#,
                "\n"
            )
        );
    }

    #[test]
    fn forms_have_names() {
        assert_eq!(Format::new("json"), Format::Json);
        for other in ["JSON", "yaml", ""] {
            assert_eq!(Format::new(other), Format::Unknown(other.to_owned()));
        }
    }
}
