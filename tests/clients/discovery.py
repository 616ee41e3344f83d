#!/usr/bin/env python3
"""Three members find each other through Debian's discovery service, which keeps its tokens in a running server.

    discovery.py --etcd PROGRAM [--service PROGRAM] HOST:PORT

HOST:PORT is the server of the tokens, PROGRAM the etcd of the three. Everything else is started here, with ports
and folders of its own, and stopped in the end. The last line is `N passed, M failed`.
"""
import argparse
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from checks import check, play, same

# How long anything may take until it is as a check wants it.
SECONDS_MAX = 15
SIZE = 3


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def get(url, method="GET", data=None):
    request = urllib.request.Request(url, data, method=method)
    with urllib.request.urlopen(request, timeout=SECONDS_MAX) as answer:
        return answer.read().decode()


def eventually(ask):
    """What `ask` gives once it raises nothing."""
    end = time.monotonic() + SECONDS_MAX
    while True:
        try:
            return ask()
        except (AssertionError, KeyError, OSError, ValueError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


class Meeting:
    """The service, and who meets there."""

    def __init__(self, options, folder, stack):
        self.options, self.folder, self.stack = options, folder, stack
        (port,) = free_ports(1)
        self.listener = ("127.0.0.1", port)
        self.address = "127.0.0.1:%d" % port
        self.token = None
        self.client_urls = []

    def start(self, words):
        log = self.stack.enter_context(open("%s/%s.log" % (self.folder, len(self.client_urls)), "w"))
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=self.folder)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)

    def start_service(self):
        self.start([self.options.service, "--addr", self.address, "--host", "http://" + self.address,
                    "--etcd", "http://" + self.options.server])

    def start_member(self):
        name = "m%d" % len(self.client_urls)
        client, peer = ("http://127.0.0.1:%d" % port for port in free_ports(2))
        self.client_urls.append(client)
        self.start([self.options.etcd, "-name", name, "-data-dir", name, "-discovery", self.token,
                    "-listen-client-urls", client, "-advertise-client-urls", client,
                    "-listen-peer-urls", peer, "-initial-advertise-peer-urls", peer])

    def names(self, client_url):
        members = json.loads(get(client_url + "/v2/members"))["members"]
        return sorted(member["name"] for member in members)


@check
def the_service_makes_a_token(meeting):
    meeting.start_service()
    url = "http://%s/new?size=%d" % (meeting.address, SIZE)
    eventually(lambda: socket.create_connection(meeting.listener).close())
    meeting.token = get(url).strip()
    prefix = "http://%s/" % meeting.address
    same((meeting.token[:len(prefix)], len(meeting.token) - len(prefix)), (prefix, 32))
    key = "http://%s/v2/keys/_etcd/registry/%s/_config/size" % (meeting.options.server, meeting.token[len(prefix):])
    same(json.loads(get(key))["node"]["value"], str(SIZE))


@check
def three_members_meet(meeting):
    for _ in range(SIZE):
        meeting.start_member()
    for url in meeting.client_urls:
        eventually(lambda: same(meeting.names(url), ["m0", "m1", "m2"]))


@check
def they_are_one_cluster(meeting):
    for number, url in enumerate(meeting.client_urls):
        key = "/v2/keys/of-%d" % number
        eventually(lambda: get(url + key, "PUT", b"value=%d" % number))
        for other in meeting.client_urls:
            same(json.loads(get(other + key + "?quorum=true"))["node"]["value"], str(number))


@check
def the_token_tells_of_them(meeting):
    nodes = json.loads(get(meeting.token))["node"]["nodes"]
    same(sorted(node["value"].split("=")[0] for node in nodes), ["m0", "m1", "m2"])


@check
def a_fourth_becomes_a_proxy(meeting):
    meeting.start_member()
    url = meeting.client_urls[-1]
    eventually(lambda: same(json.loads(get(url + "/v2/keys/of-0"))["node"]["value"], "0"))
    same(meeting.names(url), ["m0", "m1", "m2"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("--etcd", required=True)
    parser.add_argument("--service", default="discovery.etcd.io")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        meeting = Meeting(options, folder, stack)
        return play(lambda function: function(meeting), build_on_each_other=True)


if __name__ == "__main__":
    sys.exit(main())
