#!/usr/bin/env node
// What users of node-etcd (from npm) do, against a running server.
//
//     node_etcd.js HOST:PORT
//
// NODE_PATH names the folder that the library is installed in. Each check is one function; the server's folder
// /node-etcd is used and removed. The last line is `N passed, M failed`.
'use strict';

const assert = require('assert');
const net = require('net');
const Etcd = require('node-etcd');

const ROOT = '/node-etcd';
// After that a check counts as failed.
const CHECK_MS_MAX = 15000;
const url = 'http://' + process.argv[2];
const client = new Etcd([url]);
const checks = [];

// Methods of the library take a callback; here they answer, or throw, what it gets.
function call(method, ...words) {
  return callOn(client, method, ...words);
}

function callOn(client, method, ...words) {
  return new Promise((resolve, reject) => {
    client[method](...words, (error, body, headers) => (error ? reject(error) : resolve({ body, headers })));
  });
}

async function refused(code, method, ...words) {
  const error = await call(method, ...words).then(({ body }) => assert.fail(JSON.stringify(body)), (error) => error);
  assert.strictEqual(error.errorCode, code, `${error}`);
  return error;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const once = (emitter, name) => new Promise((resolve) => emitter.once(name, resolve));
const check = (name, body) => checks.push({ name, body });

check('set', async () => {
  const { body } = await call('set', `${ROOT}/a`, '1');
  assert.deepStrictEqual([body.action, body.node.key, body.node.value], ['set', `${ROOT}/a`, '1']);
  const again = await call('set', `${ROOT}/a`, 'zwei ü <&>');
  assert.strictEqual(again.body.prevNode.value, '1');
});

check('get', async () => {
  const written = await call('set', `${ROOT}/a`, 'zwei ü <&>');
  const { body, headers } = await call('get', `${ROOT}/a`);
  assert.deepStrictEqual(body, { action: 'get', node: written.body.node });
  assert.strictEqual(Number(headers['x-etcd-index']), body.node.modifiedIndex);
});

check('get of nothing', async () => {
  await call('set', `${ROOT}/a`, '1');
  const error = await refused(100, 'get', `${ROOT}/none`);
  assert.deepStrictEqual([error.message, error.error.cause], ['Key not found', `${ROOT}/none`]);
});

check('get recursive', async () => {
  await call('set', `${ROOT}/dir/sub/deep`, '1');
  const { body } = await call('get', `${ROOT}/dir`, { recursive: true });
  assert.strictEqual(body.node.nodes[0].nodes[0].key, `${ROOT}/dir/sub/deep`);
});

check('del', async () => {
  await call('set', `${ROOT}/a`, '1');
  const { body } = await call('del', `${ROOT}/a`);
  assert.deepStrictEqual([body.action, body.prevNode.value], ['delete', '1']);
  await refused(100, 'del', `${ROOT}/a`);
});

check('mkdir and rmdir', async () => {
  const { body } = await call('mkdir', `${ROOT}/dir`);
  assert.deepStrictEqual([body.action, body.node.dir], ['set', true]);
  await call('set', `${ROOT}/dir/a`, '1');
  await refused(108, 'rmdir', `${ROOT}/dir`);
  await call('rmdir', `${ROOT}/dir`, { recursive: true });
  await refused(100, 'get', `${ROOT}/dir`);
});

check('create in order', async () => {
  const keys = [];
  for (const value of ['0', '1', '2']) {
    keys.push((await call('create', `${ROOT}/queue`, value)).body.node.key);
  }
  assert.deepStrictEqual(keys, keys.slice().sort());
  const { body } = await call('get', `${ROOT}/queue`, { sorted: true });
  assert.deepStrictEqual(body.node.nodes.map((node) => node.value), ['0', '1', '2']);
});

check('ttl', async () => {
  const { body } = await call('set', `${ROOT}/ttl`, '1', { ttl: 1 });
  assert.strictEqual(body.node.ttl, 1);
  const { body: event } = await call('watchIndex', `${ROOT}/ttl`, body.node.modifiedIndex + 1);
  assert.strictEqual(event.action, 'expire');
  await refused(100, 'get', `${ROOT}/ttl`);
});

check('compareAndSwap', async () => {
  await call('set', `${ROOT}/cas`, '1');
  const { body } = await call('compareAndSwap', `${ROOT}/cas`, '2', '1');
  assert.deepStrictEqual([body.action, body.node.value], ['compareAndSwap', '2']);
  await refused(101, 'testAndSet', `${ROOT}/cas`, '3', '1');
});

check('compareAndDelete', async () => {
  await call('set', `${ROOT}/cad`, '1');
  await refused(101, 'testAndDelete', `${ROOT}/cad`, '2');
  const { body } = await call('compareAndDelete', `${ROOT}/cad`, '1');
  assert.strictEqual(body.action, 'compareAndDelete');
});

check('prevExist', async () => {
  await call('set', `${ROOT}/exist`, '1', { prevExist: false });
  await refused(105, 'set', `${ROOT}/exist`, '2', { prevExist: false });
  assert.strictEqual((await call('set', `${ROOT}/exist`, '2', { prevExist: true })).body.action, 'update');
  await refused(100, 'set', `${ROOT}/exist2`, '2', { prevExist: true });
});

check('prevIndex', async () => {
  const index = (await call('set', `${ROOT}/index`, '1')).body.node.modifiedIndex;
  await call('set', `${ROOT}/index`, '2', { prevIndex: index });
  await refused(101, 'set', `${ROOT}/index`, '3', { prevIndex: index });
});

check('watch', async () => {
  const waiting = call('watch', `${ROOT}/w`);
  await pause(300);
  await call('set', `${ROOT}/w`, '1');
  const { body } = await waiting;
  assert.deepStrictEqual([body.action, body.node.value], ['set', '1']);
});

check('watchIndex', async () => {
  const { node } = (await call('set', `${ROOT}/w`, 'past')).body;
  await call('set', `${ROOT}/w`, 'later');
  const { body } = await call('watchIndex', `${ROOT}/w`, node.modifiedIndex);
  assert.strictEqual(body.node.value, 'past');
});

check('watcher', async () => {
  const { node } = (await call('set', `${ROOT}/e`, 'start')).body;
  const watcher = client.watcher(ROOT, node.modifiedIndex + 1, { recursive: true });
  const seen = [];
  watcher.on('change', (event) => seen.push(event.action));
  const gone = once(watcher, 'delete');
  await call('set', `${ROOT}/e`, '1');
  await call('set', `${ROOT}/f`, '2');
  await call('del', `${ROOT}/f`);
  await gone;
  watcher.stop();
  assert.deepStrictEqual(seen, ['set', 'set', 'delete']);
});

check('a watcher whose index is outdated', async () => {
  for (let n = 0; n < 1010; n += 1) {
    await call('set', `${ROOT}/history`, `${n}`);
  }
  const watcher = client.watcher(`${ROOT}/history`, 1);
  await once(watcher, 'resync');
  const changed = once(watcher, 'change');
  await call('set', `${ROOT}/history`, 'new');
  await changed;
  watcher.stop();
});

check('a request that is cancelled', async () => {
  let answered = false;
  const token = client.watch(`${ROOT}/never`, () => (answered = true));
  await pause(100);
  token.cancel();
  await call('set', `${ROOT}/never`, '1');
  await pause(100);
  assert.deepStrictEqual([answered, token.isAborted()], [false, true]);
});

check('a dead first host', async () => {
  const closed = await new Promise((resolve) => {
    const server = net.createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
  const both = new Etcd([`http://127.0.0.1:${closed}`, url]);
  // They are asked in any order.
  for (let n = 0; n < 10; n += 1) {
    assert.strictEqual((await callOn(both, 'set', `${ROOT}/both`, `${n}`)).body.node.value, `${n}`);
  }
});

check('machines', async () => {
  const { body } = await call('machines');
  const values = body.node.nodes.map((node) => decodeURIComponent(node.value));
  assert.ok(values.length === 1 && values[0].startsWith(`etcd=${url}&raft=http://`), `${values}`);
});

check('stats', async () => {
  const own = (await call('selfStats')).body;
  assert.strictEqual(own.state, 'StateLeader');
  const leader = (await call('leaderStats')).body;
  assert.deepStrictEqual([leader.leader, leader.followers], [own.id, {}]);
});

check('version', async () => {
  assert.strictEqual((await call('version')).body.etcdserver, '2.3.8');
  const { body } = await call('raw', 'GET', 'v2/stats/store', null, {});
  assert.ok(body.setsSuccess > 0);
});

function within(ms, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing for ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function main() {
  let passed = 0;
  for (const { name, body } of checks) {
    try {
      await within(CHECK_MS_MAX, call('del', ROOT, { recursive: true, maxRetries: 0 }).catch((error) => {
        if (error.errorCode !== 100) throw error;
      }));
      await within(CHECK_MS_MAX, body());
      passed += 1;
      console.log(`ok   ${name}`);
    } catch (error) {
      console.log(`FAIL ${name}: ${String(error.message).split('\n').join(' ')}`);
    }
  }
  console.log(`${passed} passed, ${checks.length - passed} failed`);
  // A watcher that failed may still be trying.
  process.exit(passed > 0 && passed === checks.length ? 0 : 1);
}

main();
