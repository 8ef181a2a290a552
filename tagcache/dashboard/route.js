// The page's own addresses: #/view, #/view/name and #/view/name?option=value.

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // typed by hand, with a stray percent sign
  }
}

/** The parts of an address; `parameter` is undefined where there is none. */
export function parse(hash) {
  const [, name = "", parameter = "", query = ""] = hash.match(/^#\/([a-z]*)(?:\/([^?]*))?(?:\?(.*))?$/s) ?? [];
  return { name, parameter: parameter ? decoded(parameter) : undefined, query: new URLSearchParams(query) };
}

/** The address of a view, or of one key or tag in it; options that are empty are left out. */
export function address(name, parameter, options = {}) {
  const given = Object.entries(options).filter(([, value]) => value !== "" && value !== undefined && value !== 0);
  const query = new URLSearchParams(given).toString();
  return `#/${name}${parameter === undefined ? "" : `/${encodeURIComponent(parameter)}`}${query ? `?${query}` : ""}`;
}

/** Note where the page is now, so that a reload and the back button find it. */
export function visit(hash) {
  if (hash !== location.hash) history.pushState(null, "", hash);
}
