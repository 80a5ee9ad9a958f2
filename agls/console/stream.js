// Listens to the hub for console.js, as a worker: a page that holds a stream itself counts as loading for ever, and
// then cannot be printed or photographed by a browser without a screen.
"use strict";

onmessage = ({ data: cursor }) => {
  const stream = new EventSource(`/stream?after=${encodeURIComponent(cursor)}`);
  stream.onopen = () => postMessage({ kind: "open" });
  stream.onmessage = (message) => postMessage({ kind: "changes", changes: JSON.parse(message.data) });
  stream.onerror = () => postMessage({ kind: "lost", gaveUp: stream.readyState === EventSource.CLOSED });
};
