// Talking to the sandbox server: requests and the live socket.

/** The server refused a request; `message` is the sentence to show. */
class RefusedError extends Error {}

async function request(path, options) {
  let response;
  try {
    response = await fetch(`/sandbox/${path}`, options);
  } catch {
    throw new RefusedError("The sandbox server does not answer. Is it still running?");
  }
  const text = await response.text();
  const body = text.startsWith("{") ? JSON.parse(text) : {};
  if (!response.ok) throw new RefusedError(body.error ?? `The sandbox server answered ${response.status}.`);
  return body;
}

const post = (path, body) =>
  request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** Everything `user` sees; without a user, as the first one of the server. */
export const fetchState = (user) => request(user ? `state?user=${encodeURIComponent(user)}` : "state");
export const runCommand = (body) => post("command", body);
export const autocomplete = (body) => post("autocomplete", body);
export const pressComponent = (body) => post("component", body);
export const useMenu = (body) => post("menu", body);
export const submitModal = (body) => post("modal", body);
export const sendMessage = (body) => post("message", body);
export const dismissMessage = (body) => post("dismiss", body);

const FIRST_RETRY_MS = 300;
const LAST_RETRY_MS = 5000;

/**
 * Keeps a socket open as `user` until the returned function is called.
 * `onOpen` runs at every (re)connection and must fetch the state anew; events that come meanwhile wait for it.
 */
export function connectLive(user, { onOpen, onEvent, onLost }) {
  let closed = false;
  let retryMs = FIRST_RETRY_MS;
  let socket;

  function open() {
    socket = new WebSocket(`ws://${location.host}/sandbox/live?user=${encodeURIComponent(user)}`);
    let waiting = [];
    socket.onopen = async () => {
      try {
        await onOpen();
      } catch {
        socket.close();
        return;
      }
      retryMs = FIRST_RETRY_MS;
      waiting.forEach((event) => closed || onEvent(event));
      waiting = null;
    };
    socket.onmessage = ({ data }) => {
      if (closed) return;
      const event = JSON.parse(data);
      if (waiting) waiting.push(event);
      else onEvent(event);
    };
    socket.onclose = () => {
      if (closed) return;
      onLost();
      setTimeout(() => closed || open(), retryMs);
      retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
    };
  }

  open();
  return () => {
    closed = true;
    socket.close();
  };
}
