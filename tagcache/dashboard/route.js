// Addresses within the page: #/view, #/view/name and #/view/name?option=value.

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // an invalid escape, as in an address that somebody typed
  }
}

/** Parse an address. `parameter` is undefined if there is none. */
export function parse(hash) {
  const [, name = "", parameter = "", query = ""] = hash.match(/^#\/([a-z]*)(?:\/([^?]*))?(?:\?(.*))?$/s) ?? [];
  return { name, parameter: parameter ? decoded(parameter) : undefined, query: new URLSearchParams(query) };
}

/** The number of the database in the address of the page, as text. */
export function database() {
  return parse(location.hash).query.get("db") || "0";
}

/** The path of a request about entries, with the database of the page. */
export function inDatabase(path) {
  const db = database();
  return db === "0" ? path : `${path}${path.includes("?") ? "&" : "?"}db=${encodeURIComponent(db)}`;
}

/** The title of a dialog about entries, with the database of the page. */
export function titled(title) {
  const db = database();
  return db === "0" ? title : `${title} · database ${db}`;
}

/** The address of a view, or of one key or tag in it, in the same database. Empty options are omitted. */
export function address(name, parameter, options = {}) {
  const db = options.db ?? database();
  const every = { ...options, db: db === "0" ? "" : db };
  const given = Object.entries(every).filter(([, value]) => value !== "" && value !== undefined && value !== 0);
  const query = new URLSearchParams(given).toString();
  return `#/${name}${parameter === undefined ? "" : `/${encodeURIComponent(parameter)}`}${query ? `?${query}` : ""}`;
}

/** Save the state of the page in its address, for a reload and the back button. */
export function visit(hash) {
  if (hash !== location.hash) history.pushState(null, "", hash);
}
