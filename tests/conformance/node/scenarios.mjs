// What a program written with LM Studio's official TypeScript SDK does, one function per scenario. Each returns plain
// JSON; the tests judge it. They know the SDK and nothing of the simulator.

import { tool } from "@lmstudio/sdk";
import { z } from "zod";

// Plain data of a model handle's info, for JSON.
const infoOf = (model) => model.getModelInfo();

// Promise.withResolvers came with Node.js 22.
function withResolvers() {
  let resolve;
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

export const scenarios = {
  async version({ connect }) {
    return connect().system.getLMStudioVersion();
  },

  async lists({ connect }) {
    const client = connect();
    const [all, llms, embeddings] = await Promise.all([
      client.system.listDownloadedModels(),
      client.system.listDownloadedModels("llm"),
      client.system.listDownloadedModels("embedding"),
    ]);
    const loadedLlms = await client.llm.listLoaded();
    const loadedEmbeddings = await client.embedding.listLoaded();
    return {
      all,
      llms,
      embeddings,
      loadedLlms: await Promise.all(loadedLlms.map(infoOf)),
      loadedEmbeddings: await Promise.all(loadedEmbeddings.map(infoOf)),
    };
  },

  async identity({ connect }) {
    const client = connect();
    return {
      version: await client.system.getLMStudioVersion(),
      info: await client.system.getInfo(),
      link: await client.repository.lmLink.status(),
      engines: await client.runtime.engine.list(),
      selections: [...(await client.runtime.engine.getSelections())],
      hardware: await client.runtime.surveyHardware(),
      hardwareAll: await client.runtime.surveyHardware({ type: "all" }),
    };
  },

  // args: key, identifier
  async load({ connect, args }) {
    const client = connect();
    const progress = [];
    const model = await client.llm.load(args.key, {
      identifier: args.identifier,
      ttl: 600,
      verbose: false,
      onProgress: (value) => progress.push(value),
      config: {
        contextLength: 16384,
        maxParallelPredictions: 2,
        gpu: { ratio: 0.5, mainGpu: 1, splitStrategy: "favorMainGpu", disabledGpus: [0] },
        gpuStrictVramCap: false,
        offloadKVCacheToGpu: false,
        flashAttention: true,
        evalBatchSize: 1024,
        keepModelInMemory: false,
        seed: 42,
        tryMmap: true,
        llamaKCacheQuantizationType: "q8_0",
      },
    });
    const info = await model.getModelInfo();
    const loadConfig = await model.getLoadConfig();
    const state = await model.getInstanceProcessingState();
    const contextLength = await model.getContextLength();
    const loadedBefore = (await client.llm.listLoaded()).map((loaded) => loaded.identifier);
    await model.unload();
    const loadedAfter = (await client.llm.listLoaded()).map((loaded) => loaded.identifier);
    return { progress, info, loadConfig, state, contextLength, loadedBefore, loadedAfter };
  },

  // args: configs, namespace. Gives what each load would send, without sending it.
  async loadFrames({ connect, args }) {
    const client = connect();
    await client.system.getLMStudioVersion();
    const seen = [];
    const namespace = client[args.namespace];
    namespace.port.createChannel = (endpoint, parameter) => {
      seen.push({ endpoint, ...parameter });
      throw new Error("recorded");
    };
    for (const config of args.configs) {
      const count = seen.length;
      try {
        await namespace.load("publisher/model", { verbose: false, config });
      } catch (error) {
        if (seen.length === count) throw error;
      }
    }
    return seen;
  },

  // args: key
  async loadRefused({ connect, failure, args }) {
    const config = { contextLength: 131072, gpu: { ratio: "max" } };
    return failure(connect().llm.load(args.key, { verbose: false, config }));
  },

  // args: key
  async loadTwice({ connect, args }) {
    const client = connect();
    const first = await client.llm.load(args.key, { verbose: false });
    const second = await client.llm.load(args.key, { verbose: false });
    const infos = [await infoOf(first), await infoOf(second)];
    await client.llm.unload(second.identifier);
    await client.llm.unload(first.identifier);
    return infos;
  },

  // args: key
  async loadEmbedding({ connect, args }) {
    const client = connect();
    const model = await client.embedding.load(args.key, { verbose: false, identifier: "vectors" });
    const one = await model.embed("Hello, world");
    const many = await model.embed(["a", "b"]);
    const loadConfig = await model.getLoadConfig();
    const tokens = await model.tokenize("one two three");
    const count = await model.countTokens("one two three");
    const state = await model.getInstanceProcessingState();
    const info = await infoOf(model);
    await model.unload();
    return { one: one.embedding, many: many.map((entry) => entry.embedding), loadConfig, tokens, count, state, info };
  },

  // args: key
  async estimate({ connect, args }) {
    const client = connect();
    return {
      full: await client.llm.estimateResourcesUsage(args.key, { contextLength: 8192, gpu: { ratio: "max" } }),
      half: await client.llm.estimateResourcesUsage(args.key, { contextLength: 8192, gpu: { ratio: 0.5 } }),
      cpu: await client.llm.estimateResourcesUsage(args.key, { contextLength: 8192, gpu: { ratio: "off" } }),
      longer: await client.llm.estimateResourcesUsage(args.key, { contextLength: 32768, gpu: { ratio: "max" } }),
      bare: await client.llm.estimateResourcesUsage(args.key, {}),
    };
  },

  // args: key, embeddingKey
  async mistakes({ connect, failure, args }) {
    const client = connect();
    const gone = await client.llm.load(args.key, { verbose: false, identifier: "soon-gone" });
    await gone.unload();
    return {
      unloadUnknown: await failure(client.llm.unload("nope")),
      loadUnknown: await failure(client.llm.load("nope/nope", { verbose: false })),
      estimateUnknown: await failure(client.llm.estimateResourcesUsage("nope/nope", {})),
      wrongDomain: await failure(client.llm.load(args.embeddingKey, { verbose: false })),
      goneInfo: await failure(gone.getModelInfo()),
      goneState: await failure(gone.getInstanceProcessingState()),
      gonePredict: await failure(gone.respond("hi").result()),
      noMatch: await failure(client.llm.createDynamicHandle({ identifier: "nope" }).getLoadConfig()),
      after: (await client.llm.listLoaded()).map((model) => model.identifier),
    };
  },

  // args: key
  async loadAborted({ connect, checkpoint, failure, args }) {
    const client = connect();
    const before = (await client.llm.listLoaded()).map((model) => model.identifier);
    const abort = new AbortController();
    const progress = [];
    const loading = client.llm.load(args.key, {
      verbose: false,
      signal: abort.signal,
      onProgress: (value) => {
        progress.push(value);
        abort.abort(new Error("changed my mind"));
      },
    });
    const error = await failure(loading);
    await checkpoint("aborted");
    return { before, after: (await client.llm.listLoaded()).map((model) => model.identifier), error, progress };
  },

  // What SDKs ask beside models: the login, a file, a search of the hub. args: term
  async beside({ connect, args }) {
    const client = connect();
    const status = await client.repository.getAuthenticationStatus();
    const image = await client.files.prepareImageBase64("dot.png", Buffer.from("not really a picture").toString("base64"));
    const found = await client.repository.searchModels({ searchTerm: args.term });
    return { status, image: [image.type, image.sizeBytes, image.name], found: found.map((one) => one.name) };
  },

  // Every endpoint that the SDK knows, by namespace and sort.
  async endpoints({ connect }) {
    const client = connect();
    await client.system.getLMStudioVersion();
    const names = (port, sort) => [...client[`${port}Port`].backendInterface[`${sort}Endpoints`].keys()].sort();
    const namespaces = ["llm", "embedding", "system", "diagnostics", "runtime", "repository", "files", "plugins"];
    return Object.fromEntries(
      namespaces.map((port) => [port, { rpc: names(port, "rpc"), channel: names(port, "channel") }]),
    );
  },

  // args: key, draftKey
  async draft({ connect, args }) {
    const client = connect();
    const model = await client.llm.model(args.key);
    const result = await model.respond("Say something.", { draftModel: args.draftKey }).result();
    return result.stats;
  },

  // args: count. The first events of a log stream.
  async watch({ connect, args }) {
    const client = connect();
    const types = {};
    let seen = 0;
    const ended = withResolvers();
    const stop = client.diagnostics.unstable_streamLogs(({ data }) => {
      types[data.type] = (types[data.type] ?? 0) + 1;
      seen += 1;
      if (seen === args.count) ended.resolve();
    });
    await ended.promise;
    stop();
    return types;
  },

  // args: key, maxTokens
  async respond({ connect, args }) {
    const client = connect();
    const model = await client.llm.model(args.key);
    const fragments = [];
    const progress = [];
    const messages = [];
    let firstTokens = 0;
    const prediction = model.respond([{ role: "user", content: "Say something." }], {
      maxTokens: args.maxTokens,
      temperature: 0.5,
      onFirstToken: () => (firstTokens += 1),
      onPromptProcessingProgress: (value, details) => progress.push([value, details]),
      onMessage: (message) => messages.push([message.getRole(), message.getText()]),
    });
    for await (const fragment of prediction) fragments.push(fragment);
    const result = await prediction.result();
    return {
      fragments,
      progress,
      messages,
      firstTokens,
      content: result.content,
      reasoningContent: result.reasoningContent,
      nonReasoningContent: result.nonReasoningContent,
      stats: result.stats,
      modelInfo: result.modelInfo,
    };
  },

  // args: key
  async complete({ connect, args }) {
    const client = connect();
    const model = await client.llm.model(args.key);
    const result = await model.complete("Once upon a time", { maxTokens: 12 });
    return { content: result.content, stats: result.stats };
  },

  // args: key
  async text({ connect, args }) {
    const client = connect();
    const model = await client.llm.model(args.key);
    return {
      tokens: await model.tokenize("one two three"),
      many: await model.tokenize(["one", "two three"]),
      count: await model.countTokens("one two three"),
      formatted: await model.applyPromptTemplate([{ role: "user", content: "What is up?" }]),
    };
  },

  // args: key
  async cancelPrediction({ connect, checkpoint, args }) {
    const client = connect();
    const model = await client.llm.model(args.key);
    await checkpoint("loaded");
    const prediction = model.respond("Talk for a long time.");
    let seen = 0;
    for await (const fragment of prediction) {
      seen += fragment.content.length;
      await prediction.cancel();
    }
    const { stats, content } = await prediction.result();
    return { stats, content, seen, state: await model.getInstanceProcessingState() };
  },

  // args: key, count. The model's parallel slots are all taken and the rest waits.
  async busy({ connect, checkpoint, args }) {
    const client = connect();
    const model = await client.llm.model(args.key);
    const idle = await model.getInstanceProcessingState();
    await checkpoint("loaded");
    const predictions = Array.from({ length: args.count }, () => model.respond("Talk for a long time."));
    const { value: firstFragment } = await predictions[0][Symbol.asyncIterator]().next();
    const generating = await model.getInstanceProcessingState();
    await Promise.all(predictions.map((prediction) => prediction.cancel()));
    const results = await Promise.all(predictions.map((prediction) => prediction.result()));
    const after = await model.getInstanceProcessingState();
    const stopReasons = results.map((result) => result.stats.stopReason);
    return { idle, generating, after, firstFragment, stopReasons };
  },

  // args: key
  async act({ connect, args }) {
    const client = connect();
    const model = await client.llm.model(args.key);
    const calls = [];
    const messages = [];
    const rounds = [];
    const events = [];
    const results = [];
    const multiply = tool({
      name: "multiply",
      description: "Given two numbers a and b, returns their product.",
      parameters: { a: z.number(), b: z.number() },
      implementation: ({ a, b }) => {
        calls.push([a, b]);
        return a * b;
      },
    });
    const outcome = await model.act("What is 12345 times 54321? Use the tool.", [multiply], {
      maxPredictionRounds: 4,
      onMessage: (message) => messages.push({ role: message.getRole(), text: message.getText(), raw: message.getRaw() }),
      onRoundStart: (round) => rounds.push(round),
      onPredictionCompleted: (result) => results.push(result.stats),
      onToolCallRequestStart: (round, call, info) => events.push(["start", round, info.toolCallId ?? null]),
      onToolCallRequestNameReceived: (round, call, received) => events.push(["name", round, received]),
      onToolCallRequestArgumentFragmentGenerated: (round, call, content) => events.push(["argument", round, content]),
      onToolCallRequestEnd: (round, call, info) => events.push(["end", round, info.toolCallRequest]),
      onToolCallRequestFailure: (round, call, error) => events.push(["failure", round, String(error)]),
    });
    return { rounds: outcome.rounds, started: rounds, calls, messages, events, stats: results };
  },

  // args: key. Every event between subscribing and the end of one prediction.
  async logs({ connect, checkpoint, args }) {
    const client = connect();
    const model = await client.llm.model(args.key);
    const events = [];
    const ended = withResolvers();
    const stop = client.diagnostics.unstable_streamLogs((event) => {
      events.push(event);
      if (event.data.type === "llm.prediction.output") ended.resolve();
    });
    await checkpoint("subscribed");
    const { stats } = await model.respond("Say something.", { maxTokens: 40 }).result();
    await ended.promise;
    stop();
    await checkpoint("stopped");
    return { events, stats };
  },

  // args: options (of the client)
  async authenticate({ connect, args }) {
    const client = connect(args.options);
    const version = await client.system.getLMStudioVersion();
    const loaded = await client.llm.listLoaded();
    return { version, loaded: loaded.length };
  },

  // args: options (of the client)
  async refused({ connect, failure, args }) {
    return failure(connect(args.options).system.getLMStudioVersion());
  },

  // args: first, second (options of two clients)
  async twoClients({ connect, args }) {
    const first = connect(args.first);
    const firstVersion = await first.system.getLMStudioVersion();
    const second = connect(args.second);
    const answers = await Promise.allSettled([second.system.getLMStudioVersion(), first.llm.listLoaded()]);
    return { firstVersion, statuses: answers.map((answer) => answer.status) };
  },

  async reconnect({ connect, checkpoint, failure }) {
    const client = connect();
    const before = await client.system.getInfo();
    await client.llm.listLoaded();
    await checkpoint("connected");
    const during = await failure(client.system.getInfo());
    await checkpoint("down");
    const after = await client.system.getInfo();
    await client.llm.listLoaded();
    return { before, during, after };
  },
};
