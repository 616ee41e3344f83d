#!/usr/bin/env python3
"""What users of aio-etcd (from PyPI) do, against a running server.

    aio_etcd_checks.py HOST:PORT

Each check is one coroutine; the server's folder /aio-etcd is used and removed. The last line is `N passed, M failed`.
"""
import asyncio
import logging
import sys

import aio_etcd as etcd

from checks import check, play, same

ROOT = "/aio-etcd"
# Of the server: after that a check counts as failed.
CHECK_SECONDS_MAX = 15


async def raises(kind, awaitable):
    try:
        result = await awaitable
    except kind as error:
        return error
    raise AssertionError("%s was not raised, the result was %r" % (kind.__name__, result))


@check
async def set_values(client):
    first = await client.set(ROOT + "/a", "1")
    same((first.action, first.value, first.newKey), ("set", "1", True))
    second = await client.write(ROOT + "/a", "zwei ü <&>", ttl=60)
    same((second.newKey, second.ttl, second._prev_node.value), (False, 60, "1"))
    same(second.modifiedIndex, first.modifiedIndex + 1)
    created = await client.write(ROOT + "/b", "1", prevExist=False)
    same(created.action, "create")
    await raises(etcd.EtcdAlreadyExist, client.write(ROOT + "/b", "2", prevExist=False))


@check
async def get_values(client):
    written = await client.set(ROOT + "/a", "zwei ü <&>")
    read = await client.get(ROOT + "/a")
    same((read.action, read.value, read.modifiedIndex), ("get", "zwei ü <&>", written.modifiedIndex))
    same(read.etcd_index >= written.modifiedIndex, True)
    await client.set(ROOT + "/dir/sub/deep", "2")
    listed = await client.read(ROOT, recursive=True, sorted=True)
    same([(leaf.key, leaf.value) for leaf in listed.leaves],
         [(ROOT + "/a", "zwei ü <&>"), (ROOT + "/dir/sub/deep", "2")])
    same((await client.delete(ROOT + "/a")).action, "delete")
    same(await client.contains(ROOT + "/a"), False)


@check
async def test_and_set(client):
    await client.set(ROOT + "/cas", "1")
    swapped = await client.test_and_set(ROOT + "/cas", "2", "1")
    same((swapped.action, swapped.value), ("compareAndSwap", "2"))
    await raises(etcd.EtcdCompareFailed, client.test_and_set(ROOT + "/cas", "3", "1"))
    swapped.value = "3"
    await client.update(swapped)
    await raises(etcd.EtcdCompareFailed, client.update(swapped))
    same((await client.get(ROOT + "/cas")).value, "3")


@check
async def watch(client):
    start = await client.set(ROOT + "/w", "0")
    waiting = asyncio.ensure_future(client.watch(ROOT + "/w"))
    await asyncio.sleep(0.3)
    same(waiting.done(), False)
    await client.set(ROOT + "/w", "1")
    event = await waiting
    same((event.action, event.value, event._prev_node.value), ("set", "1", "0"))

    await client.set(ROOT + "/w2/x", "2")
    seen = []

    def note(event):
        seen.append((event.key, event.value))
        if len(seen) == 2:
            raise etcd.StopWatching

    after = await client.eternal_watch(ROOT, note, index=start.modifiedIndex + 1, recursive=True)
    same(seen, [(ROOT + "/w", "1"), (ROOT + "/w2/x", "2")])
    same(after, start.modifiedIndex + 3)


@check
async def append(client):
    keys = [(await client.write(ROOT + "/queue", str(n), append=True)).key for n in range(3)]
    same(keys, sorted(keys))
    listed = await client.read(ROOT + "/queue", sorted=True)
    same([child.value for child in listed.leaves], ["0", "1", "2"])


@check
async def machines(client):
    members = await client.members()
    same(len(members), 1)
    identity, member = next(iter(members.items()))
    same(await client.machines(), member["clientURLs"])
    same((await client.leader())["id"], identity)
    same((await client.stats())["id"], identity)


@check
async def lock(client):
    mine, other = (etcd.Lock(client, "aio-etcd-lock") for _ in range(2))
    same(await mine.acquire(lock_ttl=20), True)
    same(await mine.is_acquired(), True)
    same(await other.acquire(blocking=False), False)
    waiting = asyncio.ensure_future(other.acquire(lock_ttl=20))
    await asyncio.sleep(0.3)
    same(waiting.done(), False)
    await mine.release()
    same(await waiting, True)
    await other.release()


@check
async def key_not_found(client):
    await client.set(ROOT + "/a", "1")
    error = await raises(etcd.EtcdKeyNotFound, client.get(ROOT + "/none"))
    same((error.payload["errorCode"], error.payload["message"], error.payload["cause"]),
         (100, "Key not found", ROOT + "/none"))


async def run(function, host, port):
    client = etcd.Client(host=host, port=port, allow_reconnect=False)
    try:
        try:
            await client.delete(ROOT, recursive=True)
        except etcd.EtcdKeyNotFound:
            pass
        await function(client)
    finally:
        client.close()


def main():
    # The library tells of each error that it hands on.
    logging.disable(logging.CRITICAL)
    host, _, port = sys.argv[1].partition(":")
    return play(lambda function: asyncio.run(asyncio.wait_for(run(function, host, int(port)), CHECK_SECONDS_MAX)))


if __name__ == "__main__":
    sys.exit(main())
