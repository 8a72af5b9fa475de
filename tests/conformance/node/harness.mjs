// Runs one scenario of scenarios.mjs with LM Studio's official TypeScript SDK and reports as JSON lines on stdout.
//
//   node harness.mjs SCENARIO WS_URL [JSON_ARGUMENTS]
//
// {"checkpoint": name, "value": any}   the scenario waits until a line arrives on stdin (the test did its part)
// {"result": any, "complaints": [str], "schema": [str], "frames": n}   the last line
//
// Complaints are everything that the SDK warns about or that goes wrong around it. Schema findings are fields that the
// daemon sent and the SDK's own zod schemas do not know: those schemas are not exported, but every port carries them.

import { createInterface } from "node:readline";

import { LMStudioClient } from "@lmstudio/sdk";

import { scenarios } from "./scenarios.mjs";

const NAMESPACES = ["llm", "embedding", "system", "diagnostics", "runtime", "repository", "files", "plugins"];

const [, , name, url, argumentsJson = "{}"] = process.argv;
const complaints = [];
const schema = new Set();
let frames = 0;

const plain = (value) => String(value?.message ?? value).replace(/\u001b\[[0-9;]*m/g, "");
const complain = (...messages) => complaints.push(messages.map(plain).join(" "));
const emit = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

for (const level of ["debug", "info", "log", "warn", "error"]) console[level] = complain;
process.on("unhandledRejection", (reason) => complain("unhandled rejection:", reason));
process.on("warning", (warning) => complain("process warning:", warning));

// List the paths at which `sent` has something that the schema dropped while parsing.
function dropped(sent, parsed, path = "") {
  if (sent === null || typeof sent !== "object" || sent === parsed) return [];
  if (parsed === null || typeof parsed !== "object") return [`${path} (all of it)`];
  if (Array.isArray(sent)) return sent.flatMap((item, index) => dropped(item, parsed[index], `${path}[]`));
  return Object.entries(sent).flatMap(([key, value]) => {
    if (key in parsed && parsed[key] !== undefined) return dropped(value, parsed[key], `${path}.${key}`);
    return [`${path}.${key}`];
  });
}

// Check every frame that comes in against the schemas of the port it comes in on.
function audit(client) {
  for (const namespace of NAMESPACES) {
    const { transport, backendInterface } = client[`${namespace}Port`];
    const calls = new Map();
    const channels = new Map();
    const note = (what, paths) => {
      for (const path of paths) schema.add(`${namespace}.${what}: ${path}`);
    };
    const check = (what, zod, sent) => {
      const outcome = zod.safeParse(sent);
      if (outcome.success) note(what, dropped(sent, outcome.data));
      else note(what, outcome.error.issues.map((issue) => `${issue.path.join(".")} ${issue.message}`));
    };

    const send = transport.send.bind(transport);
    transport.send = (message) => {
      if (message.type === "rpcCall") calls.set(message.callId, message.endpoint);
      if (message.type === "channelCreate") channels.set(message.channelId, message.endpoint);
      return send(message);
    };
    const parse = transport.parseIncomingMessage.bind(transport);
    transport.parseIncomingMessage = (sent) => {
      frames += 1;
      const message = parse(sent);
      const { type } = sent;
      // What the envelope's schema dropped: stray keys, and error data that fails its schema (silently, by design).
      const { result, message: packet, ...envelope } = sent;
      note(type, dropped(envelope, message));
      if (type === "rpcResult") {
        const endpoint = backendInterface.getRpcEndpoint(calls.get(sent.callId));
        // superjson wraps the value; the SDK checks those itself when it unpacks them.
        if (endpoint?.serialization === "raw") check(endpoint.name, endpoint.returns, result);
      } else if (type === "channelSend") {
        const endpoint = backendInterface.getChannelEndpoint(channels.get(sent.channelId));
        if (endpoint?.serialization === "raw") check(endpoint.name, endpoint.toClientPacket, packet);
      }
      return message;
    };
  }
  return client;
}

const logger = { debug() {}, info() {}, warn: complain, error: complain };
const clients = [];
function connect(options = {}) {
  const client = audit(new LMStudioClient({ baseUrl: url, logger, verboseErrorMessages: false, ...options }));
  clients.push(client);
  return client;
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function checkpoint(checkpointName, value = null) {
  emit({ checkpoint: checkpointName, value });
  const { value: line, done } = await lines.next();
  if (done) throw new Error(`stdin closed at checkpoint ${checkpointName}`);
  return JSON.parse(line);
}

// Await something that must fail and return what the caller would see of the error.
async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    const seen = { message: plain(error), title: error?.title ?? null };
    if (error?.cause !== undefined) seen.cause = plain(error.cause);
    if (error?.displayData !== undefined) seen.displayData = error.displayData;
    return seen;
  }
  throw new Error("succeeded, but must have failed");
}

const scenario = scenarios[name];
if (scenario === undefined) throw new Error(`no scenario ${name}`);
let result = null;
let crash = null;
try {
  result = await scenario({ connect, checkpoint, failure, args: JSON.parse(argumentsJson) });
} catch (error) {
  crash = error?.stack ?? String(error);
}
if (crash === null) await Promise.all(clients.map((client) => client[Symbol.asyncDispose]()));
emit({ result: result ?? null, crash, complaints, schema: [...schema].sort(), frames });
process.exit(crash === null ? 0 : 1);
