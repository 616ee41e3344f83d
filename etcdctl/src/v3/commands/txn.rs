//! `txn`: a transaction from standard input.

use std::io::{BufRead, stdin};

use shared::v3::pb::etcdserverpb::response_op::Response;
use shared::v3::pb::etcdserverpb::{TxnRequest, TxnResponse};

use super::super::failure::Failure;
use super::super::print::KeyStyle;
use super::super::run::Run;
use super::{kv, txn_grammar};
use crate::output::Output;

pub(super) async fn txn(run: Run<'_>) -> Result<(), Failure> {
    if !run.line.arguments.is_empty() {
        return Err(Failure::arguments("txn command does not accept argument"));
    }
    let interactive = run.line.flags.is_on("interactive");
    let request = read(&mut stdin().lock(), interactive.then_some(&mut *run.out))?;
    let mut session = run.connect().await?;
    let answer = session.call(session.client.txn(request)).await?;
    session.printer.answer(&answer, |style, out| simple(&answer, style, out))
}

/// Reads comparisons and the two lists of requests, each ended by an empty line. `prompts` is where to ask for them.
fn read(input: &mut impl BufRead, mut prompts: Option<&mut Output>) -> Result<TxnRequest, Failure> {
    let mut prompt = |text: &str| match &mut prompts {
        Some(out) => out.line(text).and_then(|()| out.flush()),
        None => Ok(()),
    };
    prompt("compares:")?;
    let compare = block(input, txn_grammar::comparison)?;
    prompt("success requests (get, put, del):")?;
    let success = block(input, txn_grammar::request)?;
    prompt("failure requests (get, put, del):")?;
    let failure = block(input, txn_grammar::request)?;
    Ok(TxnRequest { compare, success, failure })
}

fn block<T>(input: &mut impl BufRead, parse: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let mut out = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).map_err(Failure::input)?;
        if !line.ends_with('\n') {
            return Err(Failure::input("EOF"));
        }
        match line.trim() {
            "" => return Ok(out),
            line => out.push(parse(line)?),
        }
    }
}

fn simple(answer: &TxnResponse, style: &KeyStyle, out: &mut Vec<u8>) {
    out.extend_from_slice(if answer.succeeded { b"SUCCESS\n" } else { b"FAILURE\n" });
    for answer in &answer.responses {
        out.push(b'\n');
        match &answer.response {
            Some(Response::ResponseRange(answer)) => kv::simple_range(answer, style, out),
            Some(Response::ResponsePut(answer)) => kv::simple_put(answer, style, out),
            Some(Response::ResponseDeleteRange(answer)) => kv::simple_del(answer, style, out),
            Some(Response::ResponseTxn(answer)) => simple(answer, style, out),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_end_the_blocks() {
        let mut input = &b"value(\"x\") = \"1\"\n\nput x 2\nget x\n\n\nrest"[..];
        let request = read(&mut input, None).unwrap();
        assert_eq!((request.compare.len(), request.success.len(), request.failure.len()), (1, 2, 0));
        assert_eq!(input, b"rest");
        for text in ["", "\n", "\n\n", "\n\nget x"] {
            let failure = read(&mut text.as_bytes(), None).unwrap_err();
            assert_eq!((failure.status(), failure.to_string().as_str()), (3, "EOF"), "{text:?}");
        }
    }
}
