// The API, asked as any client would; the session's cookie goes along by itself.
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || String(status));
    this.status = status;
    this.code = document.code;
    this.path = document.errors?.[0]?.path;
  }
}

export const query = (parameters) => {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") found.set(name, value);
  }
  return found.toString();
};

export async function ask(path, parameters = {}, options = {}) {
  const text = query(parameters);
  const response = await fetch(text ? `${path}?${text}` : path, { credentials: "same-origin", ...options });
  const body = await response.json();
  // Readiness answers 503 with what it knows; that is no problem document.
  if (!response.ok && body.code) throw new Problem(response.status, body);
  return body;
}

export const send = (path, method, body) =>
  ask(path, {}, { method, headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
