// Serves SurrealDB's embedded engine, which npm carries as a native addon, over
// SurrealDB's own protocol: CBOR messages on a WebSocket at /rpc. So the same
// client that talks to a server talks to it. The engine checks passwords and
// permissions; what it leaves to its host is done here:
//
//   - a session per socket, and no access to a session of another socket;
//   - nothing but signing in and asking for the version before signing in, since
//     an embedded engine takes whoever has not signed in for the owner;
//   - a live query's notifications go to the socket that asked for it.
//
// It is told what to do by the environment, says one line of JSON on standard
// output when it is ready and one when the store is closed, and ends when its
// standard input does. It does not end by itself after that: the engine's
// threads outlive its store, and tearing them down with the process has been
// seen to abort. Whoever started it kills it once the store is closed.

import { createRequire } from "node:module";
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import * as cbor from "./cbor.mjs";

const require = createRequire(import.meta.url);

// The package exports its JavaScript wrapper only; the addon lies beside it.
function findAddon() {
  const libc = process.report.getReport().header.glibcVersionRuntime ? "gnu" : "musl";
  return fileURLToPath(new URL(`surrealdb-node.linux-${process.arch}-${libc}.node`, import.meta.resolve("@surrealdb/node")));
}

const addonPath = findAddon();
const { SurrealNodeEngine } = require(addonPath);

const messageBytesMax = 64 << 20;
const callsPerSocketMax = 1024;

// What may be asked before signing in.
const open = new Set(["ping", "version", "signin", "signup", "authenticate", "use", "let", "set", "unset", "attach", "detach", "info", "reset", "invalidate"]);
// What ends a session's rights.
const closing = new Set(["invalidate", "reset"]);
const entering = new Set(["signin", "signup", "authenticate"]);

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

const engine = await SurrealNodeEngine.connect(process.env.NEXUS_SURREAL_STORE, { capabilities: true });
const sockets = new Map(); // by session
const idle = { calls: 0, waiting: [] };

async function execute(raw) {
  idle.calls++;
  try {
    return Buffer.from(await engine.execute(raw));
  } finally {
    idle.calls--;
    if (idle.calls === 0) for (const wake of idle.waiting.splice(0)) wake();
  }
}

function request(method, session, params, txn) {
  const entries = [["id", cbor.encodeInt(1)], ["method", cbor.encodeText(method)], ["params", params ?? cbor.encodeArray([])]];
  if (session) entries.push(["session", cbor.encodeUuid(Buffer.from(session.replaceAll("-", ""), "hex"))]);
  if (txn) entries.push(["txn", txn]);
  return cbor.encodeMap(entries);
}

// errorOf returns the raw error of an answer, undefined for a result.
function errorOf(answer) {
  const map = cbor.fields(answer);
  return map?.size === 1 ? map.get("error") : undefined;
}

function encodeError(code, message) {
  return cbor.encodeMap([["code", cbor.encodeInt(code)], ["message", cbor.encodeText(message)]]);
}

async function must(method, session, params) {
  const answer = await execute(request(method, session, params));
  if (errorOf(answer)) throw new Error(`${method}: ${answer.toString("latin1")}`);
  return answer;
}

async function defineOwner(user, password) {
  const text = `DEFINE USER IF NOT EXISTS ${user} ON ROOT PASSWORD ${JSON.stringify(password)} ROLES OWNER`;
  await must("query", undefined, cbor.encodeArray([cbor.encodeText(text), cbor.encodeMap([])]));
}

// Socket is one client: its sessions, each with whether it has signed in.
class Socket {
  constructor(ws) {
    this.ws = ws;
    this.sessions = new Map();
    this.calls = 0;
    // Until the session is there, messages wait in this chain.
    this.ready = this.attach((this.main = randomUUID()));
  }

  async attach(session) {
    await must("attach", session);
    this.sessions.set(session, { signedIn: false });
    sockets.set(session, this);
  }

  async close() {
    await this.ready.catch(() => {});
    for (const session of this.sessions.keys()) {
      sockets.delete(session);
      await execute(request("detach", session)).catch(() => {});
    }
    this.sessions.clear();
  }

  send(entries) {
    if (this.ws.readyState === this.ws.OPEN) this.ws.send(cbor.encodeMap(entries), { binary: true });
  }

  async receive(raw) {
    let map;
    try {
      map = cbor.fields(raw);
    } catch (err) {
      map = undefined;
    }
    const id = map?.get("id");
    const method = cbor.text(map?.get("method"));
    if (!id || !method) return this.ws.close(1003, "not a request");
    if (this.calls >= callsPerSocketMax) return this.send([["id", id], ["error", encodeError(-32000, "too many calls in flight on one socket")]]);
    this.calls++;
    try {
      await this.ready;
      const [kind, answer] = await this.call(method, map);
      this.send([["id", id], [kind, answer]]);
    } catch (err) {
      this.send([["id", id], ["error", encodeError(-32000, String(err?.message ?? err))]]);
    } finally {
      this.calls--;
    }
  }

  async call(method, map) {
    const named = cbor.uuidKey(map.get("session"));
    if (method === "attach" && named && !sockets.has(named)) {
      await this.attach(named);
      return ["result", Buffer.from([0xf6])]; // null
    }
    const session = named ?? this.main;
    const state = this.sessions.get(session);
    if (!state) return ["error", encodeError(-32000, `Session not found: ${session}`)];
    if (method === "sessions") return ["result", cbor.encodeArray([...this.sessions.keys()].map(cbor.encodeText))];
    if (!state.signedIn && !open.has(method)) return ["error", encodeError(-32002, "There was a problem with authentication: sign in first")];
    if (closing.has(method)) state.signedIn = false;
    const answer = await execute(request(method, session, map.get("params"), map.get("txn")));
    const error = errorOf(answer);
    if (error) return ["error", error];
    if (entering.has(method)) state.signedIn = true;
    if (method === "detach") {
      this.sessions.delete(session);
      sockets.delete(session);
    }
    return ["result", answer];
  }
}

async function forwardNotifications() {
  const receiver = await engine.notifications();
  for (;;) {
    const value = await receiver.recv();
    if (value === null) return;
    const raw = Buffer.from(value);
    const session = cbor.uuidKey(cbor.fields(raw)?.get("session"));
    sockets.get(session)?.send([["result", raw]]);
  }
}

const server = createServer((req, res) => {
  if (req.url === "/health" || req.url === "/version") {
    res.writeHead(200, { "content-type": "text/plain" });
    return res.end(req.url === "/version" ? SurrealNodeEngine.version() : "");
  }
  res.writeHead(404);
  res.end();
});
const wss = new WebSocketServer({ server, path: "/rpc", maxPayload: messageBytesMax, handleProtocols: (offered) => (offered.has("cbor") ? "cbor" : false) });

wss.on("connection", (ws, req) => {
  if (ws.protocol !== "cbor") return ws.close(1002, "this server speaks cbor");
  const socket = new Socket(ws);
  socket.ready.catch(() => ws.close(1011, "no session"));
  ws.on("message", (data, binary) => (binary ? socket.receive(data) : ws.close(1003, "this server speaks cbor")));
  ws.on("error", () => ws.close());
  ws.on("close", () => socket.close());
});

let ending = false;
async function end() {
  if (ending) return;
  ending = true;
  server.close();
  for (const ws of wss.clients) ws.close(1001, "the server is closing");
  if (idle.calls > 0) await new Promise((resolve) => idle.waiting.push(resolve));
  engine.free();
  say({ closed: true });
  setInterval(() => {}, 1 << 30); // to be killed, not to end: see above
}

process.on("SIGTERM", end);
process.on("SIGINT", end);
process.stdin.on("end", end).on("error", end).resume();

await defineOwner(process.env.NEXUS_SURREAL_USER, process.env.NEXUS_SURREAL_PASSWORD);
forwardNotifications().catch(() => {});
server.listen(Number(process.env.NEXUS_SURREAL_PORT ?? 0), "127.0.0.1", () => {
  say({ port: server.address().port, version: SurrealNodeEngine.version(), addon: addonPath });
});
