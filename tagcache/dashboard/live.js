// The live data that the server sends: history, samples, events. Reconnects when the connection is lost.

import { ApiError, EXPIRED, get, listen, LOGIN_REQUIRED, session } from "./api.js";

const MOST_SAMPLES = 1800;
const KINDS = ["invalidation", "slow", "refused", "warning", "error"];
const MOST_OF_A_KIND = 200;
const SILENCE_MS = 9000;
const RETRY_MS = [1000, 2000, 3000, 5000];

const wait = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });

/** `status` is "connecting", "live" or "lost"; fires "status", "sample", "history", "engine" and "log". */
class Live extends EventTarget {
  #stop = new AbortController();
  #hurry = new AbortController();

  constructor() {
    super();
    this.reset();
  }

  reset() {
    this.status = "connecting";
    this.since = Date.now();
    this.connection = null;
    this.interval = 2;
    this.samples = [];
    this.events = [];
    this.info = null;
    this.problem = "";
  }

  get last() {
    return this.samples.at(-1) ?? null;
  }

  start() {
    this.stop();
    this.reset();
    this.#stop = new AbortController();
    this.#run(this.#stop.signal);
  }

  stop() {
    this.#stop.abort();
    this.connection = null;
  }

  /** Reconnect now. */
  hurry() {
    this.#hurry.abort();
  }

  async #run(stopped) {
    for (let failures = 0; !stopped.aborted && session.valid;) {
      const silent = new AbortController();
      const signal = AbortSignal.any([stopped, silent.signal]);
      let timer = setTimeout(() => silent.abort(), SILENCE_MS);
      this.problem = "";
      try {
        const [history, info, ...logs] = await Promise.all([
          get("/history", signal),
          get("/info", signal),
          ...KINDS.map((kind) => get(`/events/log?kind=${kind}&limit=${MOST_OF_A_KIND}`, signal)),
        ]);
        this.interval = history.interval_seconds;
        this.columns = history.columns;
        this.samples = history.samples.map((row) => this.#sample(row));
        this.#keep(logs.flatMap((log) => log.events));
        this.info = info;
        this.#fire("history");
        this.#fire("log");
        await listen("/events", (name, data) => {
          clearTimeout(timer);
          timer = setTimeout(() => silent.abort(), SILENCE_MS);
          failures = 0;
          this.#heard(name, data);
        }, signal);
      } catch (error) {
        if (error instanceof ApiError && error.status > 0) this.problem = error.message;
      } finally {
        clearTimeout(timer);
      }
      this.connection = null;
      if (stopped.aborted || !session.valid) return;
      this.#change("lost");
      this.#hurry = new AbortController();
      await wait(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)], AbortSignal.any([stopped, this.#hurry.signal]));
      failures += 1;
    }
  }

  #heard(name, data) {
    if (name === "hello") {
      this.connection = data.connection;
      this.#change("live");
    } else if (name === "sample") {
      const sample = this.#sample(data);
      if (this.last && sample.time <= this.last.time) return;
      this.samples.push(sample);
      if (this.samples.length > MOST_SAMPLES) this.samples.shift();
      this.#change("live");
      this.#fire("sample");
    } else if (name === "engine") {
      this.info = { ...this.info, engine: data };
      this.#fire("engine");
    } else if (name === "log") {
      const known = this.events[0]?.id ?? 0;
      this.#keep([...data.filter((event) => event.id > known), ...this.events]);
      this.#fire("log");
    } else if (name === "bye") {
      session.end(session.open ? LOGIN_REQUIRED : EXPIRED);
    }
  }

  /** Keep the newest of each kind, so that many of one kind do not displace the others. */
  #keep(events) {
    const counts = {};
    events.sort((a, b) => b.id - a.id);
    this.events = events.filter(({ kind }) => (counts[kind] = (counts[kind] ?? 0) + 1) <= MOST_OF_A_KIND);
  }

  #sample(row) {
    const sample = Object.fromEntries(this.columns.map((column, index) => [column, row[index]]));
    sample.lookups = sample.hits + sample.misses;
    sample.requests = sample.reads + sample.writes + sample.invalidations + sample.others;
    return sample;
  }

  #change(status) {
    if (status === this.status) return;
    if (status === "lost") this.since = Date.now();
    this.status = status;
    this.#fire("status");
  }

  #fire(name) {
    this.dispatchEvent(new Event(name));
  }
}

export const live = new Live();

/** Listen to events of `live` until `signal` aborts. */
export function on(names, listener, signal) {
  for (const name of names) live.addEventListener(name, listener, { signal });
}
