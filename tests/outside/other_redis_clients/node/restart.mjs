// Stores with one connection before, during and after a restart of the server: ioredis or redis, the argument.
// It says on its output where it is, and waits for a line on its input.

import readline from "node:readline";
import { host, port } from "./harness.mjs";

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function told(text) {
  console.log(text);
  await lines.next();
}

async function connect(module) {
  if (module === "ioredis") {
    const { default: Redis } = await import("ioredis");
    return new Redis({ host, port, retryStrategy: () => 50, maxRetriesPerRequest: null });
  }
  const { createClient } = await import("redis");
  const redis = createClient({ socket: { host, port, reconnectStrategy: 50 } });
  await redis.on("error", () => {}).connect();
  return redis;
}

const redis = await connect(process.argv[2]);
redis.on("error", () => {});
await redis.set("before", "1");
const lost = new Promise((resolve) => redis.once("reconnecting", resolve));
await told("connected");
await lost;
const during = redis.set("during", "2");
await told("waiting");
await during;
console.log(JSON.stringify(await redis[process.argv[2] === "ioredis" ? "mget" : "mGet"](["before", "during"])));
process.exit(0);
