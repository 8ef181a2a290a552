// Requests to the server, and the login session.

const STORED = "tagcache.session";
export const EXPIRED = "Your session has expired. Log in again.";
export const LOGIN_REQUIRED = "The server now requires you to log in.";

/** A failed request. `status` is 0 if there was no response; `message` is for the user. */
export class ApiError extends Error {
  constructor(status, code, detail) {
    super(detail || code);
    this.status = status;
    this.code = code;
  }
}

class Session extends EventTarget {
  #timer = 0;

  constructor() {
    super();
    this.token = "";
    this.user = "";
    this.open = false; // the server requires no credentials
    this.notice = ""; // why the session has ended
    try {
      const stored = JSON.parse(sessionStorage.getItem(STORED) ?? "null");
      if (stored && stored.expires > Date.now()) this.#take(stored);
      else if (stored) {
        this.notice = EXPIRED;
        sessionStorage.removeItem(STORED);
      }
    } catch {
      sessionStorage.removeItem(STORED);
    }
  }

  get valid() {
    return this.open || this.token !== "";
  }

  #take({ token, user, expires }) {
    this.token = token;
    this.user = user;
    clearTimeout(this.#timer);
    // A longer delay would overflow, and the timer would fire at once.
    this.#timer = setTimeout(() => this.end(EXPIRED), Math.min(expires - Date.now(), 2 ** 31 - 1));
  }

  /** Log in. Throws ApiError. */
  async begin(user, password) {
    const answer = await call("POST", "/auth/login", { username: user, password });
    const session = { token: answer.token, user, expires: Date.now() + answer.expires_in * 1000 };
    sessionStorage.setItem(STORED, JSON.stringify(session));
    this.#take(session);
  }

  /** Forget the token. `why` is shown above the log-in form. */
  end(why = "") {
    if (!this.valid) return;
    clearTimeout(this.#timer);
    this.token = "";
    this.open = false;
    this.notice = why;
    sessionStorage.removeItem(STORED);
    this.dispatchEvent(new Event("ended"));
  }

  headers() {
    // This header distinguishes the dashboard's connections from those of clients.
    const mark = { "Tagcache-Dashboard": "1" };
    return this.token ? { Authorization: `Bearer ${this.token}`, ...mark } : mark;
  }
}

export const session = new Session();

async function send(method, path, options) {
  const used = session.token;
  let response;
  try {
    response = await fetch(path, { method, cache: "no-store", credentials: "omit", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server cannot be reached.");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && used === session.token) {
    session.end(
      used ? "Your session has ended: the server no longer accepts its token. Log in again." : LOGIN_REQUIRED,
    );
  }
  throw new ApiError(response.status, answer.error ?? `HTTP ${response.status}`, answer.detail);
}

/** Request JSON. `body` is sent as JSON. Throws ApiError. */
export async function call(method, path, body, signal) {
  const headers = session.headers();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await send(method, path, {
    headers,
    signal,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "cut", "The response was cut off.");
  }
}

export const get = (path, signal) => call("GET", path, undefined, signal);
export const post = (path, body, signal) => call("POST", path, body, signal);

/** Read server-sent events until the stream ends. `heard(name, data)` is called with each. */
export async function listen(path, heard, signal) {
  const response = await send("GET", path, { headers: session.headers(), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      let name = "message";
      let data = "";
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data += line.slice(6);
      }
      if (data) heard(name, JSON.parse(data));
    }
  }
}
