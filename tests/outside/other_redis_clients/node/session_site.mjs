// A site that counts the visits of each visitor in a session: express-session with connect-redis.

import http from "node:http";
import { RedisStore } from "connect-redis";
import expressSession from "express-session";
import { createClient } from "redis";
import { host, port } from "./harness.mjs";

const client = createClient({ socket: { host, port } });
await client.connect();
const store = new RedisStore({ client, prefix: "site:" });
const session = expressSession({
  store,
  secret: "of the tests",
  resave: false,
  saveUninitialized: false,
  cookie: { maxAge: 60_000 },
});

async function answer(request) {
  switch (request.url) {
    case "/visit":
      request.session.visits = (request.session.visits ?? 0) + 1;
      return request.session.visits;
    case "/look":
      return request.session.visits ?? 0;
    case "/leave":
      await new Promise((resolve) => request.session.destroy(resolve));
      return 0;
    case "/all":
      return (await store.all()).map((other) => other.visits);
    case "/milliseconds-left":
      return client.pTTL(`site:${request.sessionID}`);
    case "/count":
      return store.length();
    case "/clear":
      await store.clear();
      return 0;
  }
}

const server = http.createServer((request, response) => {
  session(request, response, async (error) => {
    if (error) throw error;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(await answer(request)));
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
