#!/usr/bin/env python3
"""Stands before a server and changes what it answers: a runner that passes there proves nothing.

    changed.py HOST:PORT PATTERN REPLACEMENT COMMAND...

Runs COMMAND with HOST:PORT of its own behind it, and ends with its status. In the bodies of answers all places are
replaced that the regular expression PATTERN matches.
"""
import http.client
import http.server
import re
import subprocess
import sys
import threading

UPSTREAM, PATTERN, REPLACEMENT, *COMMAND = sys.argv[1:]
# What is about one connection, or the body as it was.
NOT_PASSED_ON = ("connection", "content-length", "keep-alive", "transfer-encoding")


class Changed(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave together.
    wbufsize = 1 << 16

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        upstream = http.client.HTTPConnection(UPSTREAM, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        answer = upstream.getresponse()
        said = re.sub(PATTERN.encode(), REPLACEMENT.encode(), answer.read())
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)
        upstream.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that went away, or a server: its runner tells."""


def main():
    server = Server(("127.0.0.1", 0), Changed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return subprocess.call(COMMAND + ["127.0.0.1:%d" % server.server_address[1]])


if __name__ == "__main__":
    sys.exit(main())
