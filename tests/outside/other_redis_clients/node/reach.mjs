// Stores and reads a large value over TLS or at a path: ioredis or redis, the argument.

import { readFileSync } from "node:fs";

const { HOST: host, PORT, SOCKET: path, AUTHORITY } = process.env;
const large = "x".repeat(300_000);

async function connect(module) {
  const ca = AUTHORITY && readFileSync(AUTHORITY);
  if (module === "ioredis") {
    const { default: Redis } = await import("ioredis");
    return new Redis(path ? { path } : { host, port: Number(PORT), tls: { ca } });
  }
  const { createClient } = await import("redis");
  return createClient({ socket: path ? { path } : { host, port: Number(PORT), tls: true, ca } }).connect();
}

const redis = await connect(process.argv[2]);
await redis.set("k", large);
console.log((await redis.get("k")) === large);
process.exit(0);
