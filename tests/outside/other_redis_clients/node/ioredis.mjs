// The package ioredis, or another release of it: the argument.

import {
  assert,
  bytes,
  compareAndDelete,
  host,
  locked,
  lockedUrl,
  numbers,
  password,
  port,
  refused,
  run,
  test,
  testOurs,
  user,
} from "./harness.mjs";

const { default: Redis } = await import(process.argv[2]);

async function using(options, body) {
  const redis = new Redis({ host, port, ...options });
  const errors = [];
  redis.on("error", (error) => errors.push(error));
  try {
    await redis.flushall();
    await body(redis);
  } finally {
    redis.disconnect();
  }
  assert.deepEqual(errors, []);
}

function simple(name, body, options = {}) {
  test(name, () => using(options, body));
}

simple("is ready once the server has answered INFO", async (redis) => {
  assert.equal(redis.status, "ready");
  assert.match(await redis.info(), /redis_version:/);
});

test("connects lazily", async () => {
  const redis = new Redis({ host, port, lazyConnect: true });
  assert.equal(redis.status, "wait");
  await redis.connect();
  assert.equal(redis.status, "ready");
  assert.equal(await redis.ping(), "PONG");
  assert.equal(await redis.quit(), "OK");
});

simple("stores and reads", async (redis) => {
  assert.equal(await redis.set("k", "ä", "EX", 100, "NX"), "OK");
  assert.equal(await redis.set("k", "other", "EX", 100, "NX"), null);
  assert.equal(await redis.get("k"), "ä");
  assert.equal(await redis.get("none"), null);
  assert.equal(await redis.set("k", "new", "KEEPTTL", "GET"), "ä");
  assert.ok(await redis.ttl("k") > 90);
  assert.equal(await redis.getex("k", "PERSIST"), "new");
  assert.equal(await redis.ttl("k"), -1);
  assert.equal(await redis.getdel("k"), "new");
  assert.equal(await redis.exists("k", "none"), 0);
});

simple("keeps bytes", async (redis) => {
  await redis.set(bytes, bytes);
  assert.deepEqual(await redis.getBuffer(bytes), bytes);
  assert.deepEqual(await redis.mgetBuffer(bytes, "none"), [bytes, null]);
  assert.deepEqual(await redis.getrangeBuffer(bytes, 250, -1), bytes.subarray(250));
  const large = Buffer.alloc(900_000, "x");
  await redis.set("large", large);
  assert.deepEqual(await redis.getBuffer("large"), large);
});

simple("counts", async (redis) => {
  assert.equal(await redis.incr("n"), 1);
  assert.equal(await redis.decrby("n", 5), -4);
  assert.equal(await redis.incrbyfloat("n", 0.5), "-3.5");
  await refused(redis.incr("n"), /^ERR value is not an integer or out of range$/);
});

simple("names the command of an error", async (redis) => {
  const error = await redis.call("NOTHING", "a").catch((error) => error);
  assert.equal(error.name, "ReplyError");
  assert.match(error.message, /^ERR unknown command/);
  assert.deepEqual(error.command, { name: "NOTHING", args: ["a"] });
});

simple("takes many keys, as a list, an object and a map", async (redis) => {
  assert.equal(await redis.mset("a", 1, "b", 2), "OK");
  assert.equal(await redis.mset({ c: "3" }), "OK");
  assert.equal(await redis.mset(new Map([["d", "4"]])), "OK");
  assert.deepEqual(await redis.mget(["a", "b", "c", "d"]), ["1", "2", "3", "4"]);
  assert.equal(await redis.msetnx("d", 5, "e", 5), 0);
  assert.equal(await redis.unlink("a", "b", "none"), 2);
});

simple("pipelines, with an error among the results", async (redis) => {
  const results = await redis.pipeline().set("k", "v").incr("k").get("k").exec();
  assert.deepEqual(results[0], [null, "OK"]);
  assert.match(results[1][0].message, /not an integer/);
  assert.deepEqual(results[2], [null, "v"]);
  const pipeline = redis.pipeline();
  for (const number of numbers) pipeline.set(`k${number}`, number);
  assert.equal((await pipeline.exec()).length, numbers.length);
  assert.equal(await redis.dbsize(), numbers.length + 1);
});

simple("pipelines on its own", async (redis) => {
  await redis.mset(Object.fromEntries(numbers.map((number) => [`k${number}`, number])));
  const values = await Promise.all(numbers.map((number) => redis.get(`k${number}`)));
  assert.deepEqual(values, numbers.map(String));
}, { enableAutoPipelining: true });

simple("runs transactions", async (redis) => {
  const results = await redis.multi().set("k", "1").incr("k").exec();
  assert.deepEqual(results, [[null, "OK"], [null, 2]]);
  assert.equal(await redis.multi({ pipeline: false }), "OK");
  assert.equal(await redis.set("k", "x"), "QUEUED");
  assert.equal(await redis.incr("k"), "QUEUED");
  const [, failed] = await redis.exec();
  assert.match((failed[0] ?? failed).message, /not an integer/);
  await redis.multi({ pipeline: false });
  await redis.set("k", "y");
  assert.equal(await redis.discard(), "OK");
  assert.equal(await redis.get("k"), "x");
});

simple("aborts a transaction with an unknown command", async (redis) => {
  await refused(redis.multi().set("k", "v").call("NOTHING").exec(), /^EXECABORT/);
  assert.equal(await redis.exists("k"), 0);
});

simple("aborts a transaction if a watched key has changed", async (redis) => {
  await redis.set("k", "1");
  assert.equal(await redis.watch("k"), "OK");
  await using2((other) => other.set("k", "2"));
  assert.equal(await redis.multi().set("k", "3").exec(), null);
  assert.equal(await redis.get("k"), "2");
});

async function using2(body) {
  const other = new Redis({ host, port });
  try {
    await body(other);
  } finally {
    other.disconnect();
  }
}

simple("streams the keys of a scan", async (redis) => {
  await redis.mset(Object.fromEntries(numbers.flatMap((n) => [[`a:${n}`, n], [`b:${n}`, n]])));
  const found = new Set();
  for await (const keys of redis.scanStream({ match: "a:*", count: 50, type: "string" })) {
    for (const key of keys) found.add(key);
  }
  assert.deepEqual([...found].sort(), numbers.map((number) => `a:${number}`).sort());
});

simple("prefixes keys", async (redis) => {
  await redis.set("k", "v");
  await redis.pipeline().mset("a", 1, "b", 2).expire("a", 100).exec();
  await using2(async (other) => {
    assert.deepEqual((await other.keys("*")).sort(), ["mine:a", "mine:b", "mine:k"]);
  });
  assert.deepEqual(await redis.mget("k", "b"), ["v", "2"]);
  assert.equal(await redis.del("k", "none"), 1);
}, { keyPrefix: "mine:" });

simple("names its connection", async (redis) => {
  assert.equal(await redis.client("GETNAME"), "waiter");
  assert.match(await redis.client("LIST"), / name=waiter /);
  assert.equal(typeof await redis.client("ID"), "number");
}, { connectionName: "waiter" });

test("uses a numbered database", () =>
  using({ db: 1 }, async (redis) => {
    await redis.set("k", "one");
    await using2(async (other) => {
      assert.equal(await other.get("k"), null);
      await other.select(1);
      assert.equal(await other.get("k"), "one");
      await other.flushdb();
    });
    assert.equal(await redis.dbsize(), 0);
  }));

test("logs in", async () => {
  for (const options of [lockedUrl, { ...locked, username: user, password }, { ...locked, password }]) {
    const redis = new Redis(options);
    assert.equal(await redis.set("k", "v"), "OK");
    assert.equal(await redis.quit(), "OK");
  }
});

test("is told of a wrong password", async () => {
  const redis = new Redis({ ...locked, username: user, password: "wrong", retryStrategy: null });
  const told = new Promise((resolve) => redis.on("error", resolve));
  assert.match((await told).message, /WRONGPASS/);
  redis.disconnect();
});

test("connects again after its connection was killed", () =>
  using({}, async (redis) => {
    const id = await redis.client("ID");
    const ready = new Promise((resolve) => redis.once("ready", resolve));
    await using2((other) => other.client("KILL", "ID", id));
    await ready;
    assert.notEqual(await redis.client("ID"), id);
  }));

simple("knows the scripts of well-known clients", async (redis) => {
  redis.defineCommand("compareAndDelete", { numberOfKeys: 1, lua: compareAndDelete });
  await redis.set("lock", "mine", "PX", 10_000, "NX");
  assert.equal(await redis.compareAndDelete("lock", "other"), 0);
  assert.equal(await redis.compareAndDelete("lock", "mine"), 1);
  assert.equal(await redis.exists("lock"), 0);
});

testOurs("is told that other scripts are not run", () =>
  using({}, async (redis) => {
    redis.defineCommand("twice", { numberOfKeys: 1, lua: "return redis.call('incrby', KEYS[1], 2)" });
    await refused(redis.twice("k"), /^ERR .*script/);
    assert.equal(await redis.get("k"), null);
  }));

testOurs("is told that there are no channels, lists and hashes", () =>
  using({}, async (redis) => {
    await refused(redis.subscribe("channel"), /^ERR .*SUBSCRIBE/i);
    await refused(redis.publish("channel", "text"), /^ERR .*PUBLISH/i);
    await refused(redis.lpush("k", "v"), /^ERR .*LPUSH/i);
    await refused(redis.hset("k", { f: "v" }), /^ERR .*HSET/i);
    await refused(redis.sadd("k", "v"), /^ERR .*SADD/i);
    assert.equal(await redis.ping(), "PONG");
  }));

testOurs("tags entries", () =>
  using({ keyPrefix: "p:" }, async (redis) => {
    assert.equal(await redis.call("TAG.SET", "k", "v", "PX", 10_000, "TAGS", 2, "red", "blue"), "OK");
    redis.addBuiltinCommand("tag.set");
    assert.equal(await redis["tag.set"]("l", "w", "TAGS", 1, "red"), "OK");
    assert.deepEqual(await redis.callBuffer("TAG.OF", "k"), [Buffer.from("red"), Buffer.from("blue")]);
    assert.equal(await redis.call("TAG.COUNT", "red"), 2);
    assert.equal(await redis.call("TAG.INVALIDATE", "ANY", 2, "blue", "none"), 1);
    const results = await redis.pipeline().call("TAG.INVALIDATE", 1, "red").dbsize().exec();
    assert.deepEqual(results, [[null, 1], [null, 0]]);
  }));

await run();
