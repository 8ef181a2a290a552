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

/** The address of a view, or of one key or tag in it. Empty options are omitted. */
export function address(name, parameter, options = {}) {
  const given = Object.entries(options).filter(([, value]) => value !== "" && value !== undefined && value !== 0);
  const query = new URLSearchParams(given).toString();
  return `#/${name}${parameter === undefined ? "" : `/${encodeURIComponent(parameter)}`}${query ? `?${query}` : ""}`;
}

/** Save the state of the page in its address, for a reload and the back button. */
export function visit(hash) {
  if (hash !== location.hash) history.pushState(null, "", hash);
}
