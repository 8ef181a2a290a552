// Runs tests, and prints a line of JSON for each: its name, and what went wrong, or null.

import assert from "node:assert/strict";

export const host = process.env.HOST;
export const port = Number(process.env.PORT);
// A server that clients have to log in to.
export const locked = { host, port: Number(process.env.LOCKED_PORT) };
export const user = process.env.USER_NAME;
export const password = process.env.PASSWORD;
export const lockedUrl = `redis://${user}:${encodeURIComponent(password)}@${host}:${locked.port}`;
export const againstRedis = process.env.AGAINST === "redis";
// Every byte, and no UTF-8.
export const bytes = Buffer.from([...Array(256).keys()]);
// As Laravel has it.
export const compareAndDelete = `if redis.call("get",KEYS[1]) == ARGV[1] then
    return redis.call("del",KEYS[1])
else
    return 0
end`;
export const numbers = [...Array(500).keys()];

const tests = [];

export function test(name, body) {
  tests.push({ name, body });
}

// A test of what Redis does not do.
export function testOurs(name, body) {
  test(name, againstRedis ? () => {} : body);
}

export async function run() {
  for (const { name, body } of tests) {
    let timer;
    const tooLong = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("it hangs")), 30_000);
    });
    try {
      await Promise.race([body(), tooLong]);
      console.log(JSON.stringify({ name, error: null }));
    } catch (error) {
      console.log(JSON.stringify({ name, error: String(error.stack) }));
    } finally {
      clearTimeout(timer);
    }
  }
  // Whatever a failed test left open.
  process.exit(0);
}

export async function refused(promise, pattern) {
  const error = await promise.then(() => assert.fail("it was not refused"), (error) => error);
  assert.match(error.message, pattern);
}

export { assert };
