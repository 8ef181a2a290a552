// The package redis with RESP2 or RESP3, or its release 4: the arguments.

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

const [, , module, version] = process.argv;
const { createClient, createClientPool, RESP_TYPES, defineScript, commandOptions } = await import(module);
const four = module === "redis4";

function client(options = {}) {
  // A test that cannot connect fails at once.
  return createClient({
    socket: { host, port, reconnectStrategy: false },
    ...(four ? {} : { RESP: Number(version) }),
    ...options,
  });
}

async function using(body, options = {}) {
  const redis = client(options);
  const errors = [];
  redis.on("error", (error) => errors.push(error));
  await redis.connect();
  try {
    await body(redis);
  } finally {
    await (four ? redis.disconnect() : redis.destroy());
  }
  assert.deepEqual(errors, []);
}

function simple(name, body, options) {
  test(name, () =>
    using(async (redis) => {
      await redis.flushAll();
      await body(redis);
    }, options));
}

simple("stores and reads", async (redis) => {
  assert.equal(await redis.set("k", "ä", { EX: 100, NX: true }), "OK");
  assert.equal(await redis.set("k", "other", { NX: true }), null);
  assert.equal(await redis.get("k"), "ä");
  assert.equal(await redis.get("none"), null);
  assert.equal(await redis.set("k", "new", { KEEPTTL: true, GET: true }), "ä");
  assert.ok(await redis.ttl("k") > 90);
  assert.equal(await redis.setEx("k", 50, "v"), "OK");
  assert.equal(await redis.getEx("k", four ? { PERSIST: true } : { type: "PERSIST" }), "v");
  assert.equal(await redis.ttl("k"), -1);
  assert.equal(await redis.getDel("k"), "v");
  assert.equal(await redis.exists(["k", "none"]), 0);
});

simple("keeps bytes", async (redis) => {
  await redis.set(bytes, bytes);
  const get = four
    ? (key) => redis.get(commandOptions({ returnBuffers: true }), key)
    : (key) => redis.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }).get(key);
  assert.deepEqual(await get(bytes), bytes);
  const large = Buffer.alloc(900_000, "x");
  await redis.set("large", large);
  assert.deepEqual(await get("large"), large);
});

simple("counts", async (redis) => {
  assert.equal(await redis.incr("n"), 1);
  assert.equal(await redis.decrBy("n", 5), -4);
  assert.equal(Number(await redis.incrByFloat("n", 0.5)), -3.5);
  await refused(redis.incr("n"), /^ERR value is not an integer or out of range$/);
});

simple("takes many keys", async (redis) => {
  assert.equal(await redis.mSet({ a: "1", b: "2" }), "OK");
  assert.equal(await redis.mSet([["c", "3"], ["d", "4"]]), "OK");
  assert.deepEqual(await redis.mGet(["a", "none", "d"]), ["1", null, "4"]);
  assert.equal(Number(await redis.mSetNX({ d: "5", e: "5" })), 0);
  assert.equal(await redis.unlink(["a", "b", "none"]), 2);
  assert.equal(await redis.rename("c", "C"), "OK");
  assert.equal(await redis.type("C"), "string");
  assert.equal(Number(await redis.copy("C", "D")), 1);
  assert.deepEqual((await redis.keys("*")).sort(), ["C", "D", "d"]);
});

simple("pipelines what is sent in one turn", async (redis) => {
  await Promise.all(numbers.map((number) => redis.set(`k${number}`, `${number}`)));
  const values = await Promise.all(numbers.map((number) => redis.get(`k${number}`)));
  assert.deepEqual(values, numbers.map(String));
});

simple("runs transactions", async (redis) => {
  const results = await redis.multi().set("k", "1").incr("k").get("k").exec();
  assert.deepEqual(results, ["OK", 2, "2"]);
  const pipelined = await redis.multi().set("k", "3").get("k").execAsPipeline();
  assert.deepEqual(pipelined, ["OK", "3"]);
  const error = await redis.multi().set("k", "x").incr("k").exec().catch((error) => error);
  assert.equal(error.constructor.name, "MultiErrorReply");
  assert.match(error.replies[1].message, /not an integer/);
});

simple("aborts a transaction with an unknown command", async (redis) => {
  await refused(redis.multi().set("k", "v").addCommand(["NOTHING"]).exec(), /EXECABORT|unknown command/);
  assert.equal(await redis.exists("k"), 0);
});

async function conflict(redis) {
  await redis.watch("k");
  await using((other) => other.set("k", "2"));
  const error = await redis.multi().set("k", "3").exec().catch((error) => error);
  assert.equal(error.constructor.name, "WatchError");
  assert.equal(await redis.get("k"), "2");
}

simple("aborts a transaction if a watched key has changed", conflict);

simple("iterates over the keys of a scan", async (redis) => {
  await redis.mSet(numbers.flatMap((n) => [[`a:${n}`, `${n}`], [`b:${n}`, `${n}`]]));
  const found = new Set();
  for await (const keys of redis.scanIterator({ MATCH: "a:*", COUNT: 50, TYPE: "string" })) {
    for (const key of [keys].flat()) found.add(key);
  }
  assert.deepEqual([...found].sort(), numbers.map((number) => `a:${number}`).sort());
});

simple("sets and reads times to live", async (redis) => {
  await redis.set("k", "v");
  assert.equal(Number(await redis.expire("k", 100)), 1);
  assert.equal(Number(await redis.expire("k", 50, "GT")), 0);
  assert.equal(Number(await redis.pExpireAt("k", Date.now() + 200_000)), 1);
  const left = await redis.pTTL("k");
  assert.ok(left > 150_000 && left <= 200_000, left);
  assert.ok(await redis.expireTime("k") > Date.now() / 1000 + 150);
  assert.equal(Number(await redis.persist("k")), 1);
  assert.equal(await redis.pTTL("k"), -1);
});

test("uses a pool of connections", async () => {
  if (four) {
    const redis = client({ isolationPoolOptions: { min: 1, max: 2 } });
    await redis.connect();
    await redis.executeIsolated(conflict);
    return redis.disconnect();
  }
  const pool = createClientPool({ socket: { host, port }, RESP: Number(version) }, { minimum: 2, maximum: 4 });
  await pool.connect();
  await pool.set("n", "0");
  await Promise.all(numbers.map(() => pool.incr("n")));
  assert.equal(await pool.get("n"), String(numbers.length));
  await pool.execute(conflict);
  pool.destroy();
});

simple("asks the server about itself", async (redis) => {
  assert.match(await redis.info("server"), /redis_version:/);
  assert.equal(await redis.dbSize(), 0);
  assert.equal(await redis.echo("hello"), "hello");
  const config = await redis.configGet("maxmemory-policy");
  assert.equal(typeof config["maxmemory-policy"], "string");
  assert.ok(await redis.commandCount() > 50);
  assert.ok((await redis.clientList()).some((other) => other.name === "waiter"));
  assert.equal((await redis.clientInfo()).name, "waiter");
  const own = await redis.sendCommand(["CLIENT", "LIST", "ID", String(await redis.clientId())]);
  assert.equal(own.match(/ name=waiter /g).length, 1);
  assert.ok(Math.abs(Number(await redis.time().then((time) => time[0] ?? time / 1000)) - Date.now() / 1000) < 60);
}, { name: "waiter" });

test("uses a numbered database", () =>
  using(async (redis) => {
    await redis.flushAll();
    await redis.set("k", "one");
    await using(async (other) => {
      assert.equal(await other.get("k"), null);
      await other.select(1);
      assert.equal(await other.get("k"), "one");
      await other.flushDb();
    });
    assert.equal(await redis.dbSize(), 0);
  }, { database: 1 }));

test("logs in", async () => {
  const socket = locked;
  for (const options of [{ url: lockedUrl }, { socket, username: user, password }, { socket, password }]) {
    await using((redis) => redis.set("k", "v"), { socket: undefined, ...options });
  }
});

test("is told of a wrong password", async () => {
  const redis = client({ socket: { ...locked, reconnectStrategy: false }, username: user, password: "wrong" });
  redis.on("error", () => {});
  await refused(redis.connect(), /WRONGPASS/);
});

test("connects again after its connection was killed", async () => {
  const redis = client({ socket: { host, port } });
  redis.on("error", () => {});
  await redis.connect();
  const id = await redis.clientId();
  const ready = new Promise((resolve) => redis.once("ready", resolve));
  await using((other) => other.sendCommand(["CLIENT", "KILL", "ID", String(id)]));
  await ready;
  assert.notEqual(await redis.clientId(), id);
  await (four ? redis.disconnect() : redis.destroy());
});

const unlock = defineScript({
  SCRIPT: compareAndDelete,
  NUMBER_OF_KEYS: 1,
  ...(four ? { transformArguments: (key, token) => [key, token] } : {
    parseCommand(parser, key, token) {
      parser.pushKey(key);
      parser.push(token);
    },
  }),
  transformReply: (reply) => reply,
});

simple("knows the scripts of well-known clients", async (redis) => {
  await redis.set("lock", "mine");
  assert.equal(await redis.unlock("lock", "other"), 0);
  assert.equal(await redis.unlock("lock", "mine"), 1);
}, { scripts: { unlock } });

testOurs("is told what is refused", () =>
  using(async (redis) => {
    await refused(redis.eval("return 1"), /^ERR .*script/);
    await refused(redis.lPush("k", "v"), /^ERR .*LPUSH/i);
    await refused(redis.hSet("k", "f", "v"), /^ERR .*HSET/i);
    await refused(redis.publish("channel", "text"), /^ERR .*PUBLISH/i);
    await refused(redis.sendCommand(["SUBSCRIBE", "channel"]), /^ERR .*SUBSCRIBE/i);
    assert.equal(await redis.ping(), "PONG");
  }));

testOurs("tags entries", () =>
  using(async (redis) => {
    await redis.flushAll();
    assert.equal(await redis.sendCommand(["TAG.SET", "k", "v", "EX", "100", "TAGS", "2", "red", "blue"]), "OK");
    assert.equal(await redis.sendCommand(["TAG.SET", "l", "w", "TAGS", "1", "red"]), "OK");
    assert.deepEqual(await redis.sendCommand(["TAG.OF", "k"]), ["red", "blue"]);
    assert.equal(await redis.sendCommand(["TAG.COUNT", "red"]), 2);
    assert.equal(await redis.sendCommand(["TAG.INVALIDATE", "1", "red"]), 2);
    assert.equal(await redis.dbSize(), 0);
  }));

await run();
