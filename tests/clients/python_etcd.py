#!/usr/bin/env python3
"""What users of python-etcd (Debian: python3-etcd) do, against a running server.

    python_etcd.py HOST:PORT

Each check is one function; the server's folder /python-etcd is used and removed. The last line is
`N passed, M failed`.
"""
import sys
import threading
import time

import etcd

from checks import check, play, same

ROOT = "/python-etcd"


def raises(kind, call, *args, **kwargs):
    try:
        result = call(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError("%s was not raised, the result was %r" % (kind.__name__, result))


@check
def set_and_get(client):
    first = client.write(ROOT + "/a", "1")
    same((first.action, first.value, first.newKey), ("set", "1", True))
    second = client.write(ROOT + "/a", "zwei ü <&>")
    same((second.newKey, second._prev_node.value), (False, "1"))
    read = client.read(ROOT + "/a")
    same((read.value, read.modifiedIndex, read.dir), ("zwei ü <&>", second.modifiedIndex, False))
    same(read.etcd_index >= second.modifiedIndex, True)
    same(client.get(ROOT + "/a").value, read.value)
    same(ROOT + "/a" in client, True)
    raises(etcd.EtcdKeyNotFound, client.read, ROOT + "/none")


@check
def create_and_update(client):
    client.write(ROOT + "/c", "1", prevExist=False)
    raises(etcd.EtcdAlreadyExist, client.write, ROOT + "/c", "2", prevExist=False)
    client.write(ROOT + "/c", "2", prevExist=True)
    raises(etcd.EtcdKeyNotFound, client.write, ROOT + "/d", "1", prevExist=True)
    node = client.read(ROOT + "/c")
    node.value = "3"
    client.update(node)
    same(client.read(ROOT + "/c").value, "3")


@check
def compare_and_swap(client):
    client.write(ROOT + "/cas", "1")
    swapped = client.test_and_set(ROOT + "/cas", "2", "1")
    same((swapped.action, swapped.value), ("compareAndSwap", "2"))
    raises(etcd.EtcdCompareFailed, client.test_and_set, ROOT + "/cas", "3", "1")
    client.write(ROOT + "/cas", "3", prevIndex=swapped.modifiedIndex)
    raises(etcd.EtcdCompareFailed, client.write, ROOT + "/cas", "4", prevIndex=swapped.modifiedIndex)


@check
def compare_and_delete(client):
    client.write(ROOT + "/cad", "1")
    raises(etcd.EtcdCompareFailed, client.delete, ROOT + "/cad", prevValue="2")
    same(client.delete(ROOT + "/cad", prevValue="1").action, "compareAndDelete")
    same(ROOT + "/cad" in client, False)
    client.write(ROOT + "/pop", "popped")
    same(client.pop(ROOT + "/pop").value, "popped")


@check
def directories(client):
    client.write(ROOT + "/dir", None, dir=True)
    raises(etcd.EtcdNotFile, client.write, ROOT + "/dir", "x")
    client.write(ROOT + "/dir/sub/deep", "1")
    client.write(ROOT + "/dir/b", "2")
    raises(etcd.EtcdNotDir, client.write, ROOT + "/dir/b/c", "3")
    leaves = [(leaf.key, leaf.value) for leaf in client.read(ROOT + "/dir", recursive=True, sorted=True).leaves]
    same(leaves, [(ROOT + "/dir/b", "2"), (ROOT + "/dir/sub/deep", "1")])
    children = sorted(child.key for child in client.read(ROOT + "/dir").children)
    same(children, [ROOT + "/dir/b", ROOT + "/dir/sub"])
    raises(etcd.EtcdDirNotEmpty, client.delete, ROOT + "/dir", dir=True)
    client.delete(ROOT + "/dir", recursive=True)
    raises(etcd.EtcdKeyNotFound, client.read, ROOT + "/dir")


@check
def time_to_live(client):
    client.write(ROOT + "/ttl", "1", ttl=1)
    same(client.read(ROOT + "/ttl").ttl, 1)
    client.write(ROOT + "/kept", "1", ttl=1)
    kept = client.refresh(ROOT + "/kept", ttl=100)
    same((kept.value, kept.ttl), ("1", 100))
    end = time.time() + 5
    while ROOT + "/ttl" in client:
        if time.time() > end:
            raise AssertionError("a key with a TTL of 1 s is there after 5 s")
        time.sleep(0.1)
    same(client.read(ROOT + "/kept").value, "1")


@check
def in_order(client):
    keys = [client.write(ROOT + "/queue", str(n), append=True).key for n in range(3)]
    same(keys, sorted(keys))
    read = client.read(ROOT + "/queue", sorted=True)
    same([child.value for child in read.children], ["0", "1", "2"])


def later(call, *args, **kwargs):
    thread = threading.Timer(0.3, call, args, kwargs)
    thread.start()
    return thread


@check
def watch(client):
    client.write(ROOT + "/w", "0")
    thread = later(client.write, ROOT + "/w", "1")
    event = client.read(ROOT + "/w", wait=True, timeout=5)
    thread.join()
    same((event.action, event.value, event._prev_node.value), ("set", "1", "0"))
    # From the past, and below a folder.
    same(client.watch(ROOT + "/w", index=event.modifiedIndex).value, "1")
    thread = later(client.write, ROOT + "/w2/x", "2")
    event = client.watch(ROOT, recursive=True, timeout=5)
    thread.join()
    same(event.key, ROOT + "/w2/x")
    raises(etcd.EtcdWatchTimedOut, client.watch, ROOT + "/w", timeout=1)


@check
def eternal_watch(client):
    start = client.write(ROOT + "/e", "start").modifiedIndex
    for n in range(5):
        client.write(ROOT + "/e", str(n))
    events = client.eternal_watch(ROOT + "/e", index=start + 1)
    same([next(events).value for _ in range(5)], ["0", "1", "2", "3", "4"])


@check
def index_too_old(client):
    for n in range(1100):
        client.write(ROOT + "/history", str(n))
    raises(etcd.EtcdEventIndexCleared, client.watch, ROOT + "/history", index=1)


@check
def quorum_read(client):
    client.write(ROOT + "/q", "1")
    same(client.read(ROOT + "/q", quorum=True).value, "1")


@check
def lock(client):
    mine = etcd.Lock(client, "python-etcd-lock")
    mine.acquire(lock_ttl=20)
    same(mine.is_acquired, True)
    other = etcd.Lock(client, "python-etcd-lock")
    same(other.acquire(blocking=False), False)
    mine.release()
    same(other.acquire(blocking=True, timeout=5), True)
    other.release()


@check
def cluster(client):
    members = client.members
    same(len(members), 1)
    member = next(iter(members.values()))
    same(client.leader["id"], member["id"])
    same(client.machines, [member["clientURLs"][0]])
    same(client.stats["id"], member["id"])
    same(client.leader_stats["leader"], member["id"])
    before = client.store_stats["setsSuccess"]
    client.write(ROOT + "/stat", "1")
    same(client.store_stats["setsSuccess"], before + 1)
    same(client.version, "2.3.8")
    same(client.cluster_version.split(".")[:2], ["2", "3"])


def main():
    host, _, port = sys.argv[1].partition(":")

    def run(function):
        client = etcd.Client(host=host, port=int(port), allow_reconnect=False)
        try:
            client.delete(ROOT, recursive=True)
        except etcd.EtcdKeyNotFound:
            pass
        function(client)

    return play(run)


if __name__ == "__main__":
    sys.exit(main())
