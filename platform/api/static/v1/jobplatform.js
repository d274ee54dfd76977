// The browser's client of jobplatform. One module, no dependencies, no build step.
// Types are in jobplatform.d.ts beside it; how to use it is in docs/howto/watch-a-job.md.

const FINAL = ["completed", "failed", "cancelled"];
const SILENCE = 30_000; // a stream says something every ten seconds
const POLL_SECONDS = 20;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
const LONGEST_ASKED = 60; // seconds: a server that wants to be left alone for longer is asked again all the same
const MOST_LINES = 1_000;
const TOO_MANY = 429;
const PASSES = [502, 503, 504]; // the server has no time, or a proxy finds none
const TRIES = 5;
const UNKNOWN = { status: null, progress: null, result: null, error: null, log: [] };

/** The API answered that it cannot: `status`, and the problem document that says why. */
export class ApiError extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail || `the API answered ${status}`);
    this.name = "ApiError";
    this.status = status;
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

/** Enqueue, look at, list, change, cancel, retry and fork the jobs of one workspace. */
export function createClient(baseUrl, workspaceId, options = {}) {
  const root = `${baseUrl.replace(/\/+$/, "")}/workspaces/${workspaceId}`;
  const ask = (method, path, body, headers) => insist(root + path, options, method, body, headers);
  const client = {
    enqueue: async (jobType, payload = {}, more = {}) => {
      const { job, deduplicated, replaced } = await ask("POST", "/jobs", { ...more, jobType, payload });
      return { ...job, deduplicated, replaced };
    },
    get: (jobId) => ask("GET", `/jobs/${jobId}`),
    async *list(filters = {}) {
      let cursor;
      do {
        const query = new URLSearchParams({ ...filters, ...(cursor ? { cursor } : {}) });
        const page = await ask("GET", `/jobs?${query}`);
        yield* page.items;
        cursor = page.nextCursor;
      } while (cursor);
    },
    cancel: (jobId) => ask("POST", `/jobs/${jobId}/cancel`),
    retry: (jobId, more = {}) => ask("POST", `/jobs/${jobId}/retry?${new URLSearchParams(more)}`),
    fork: async (jobId, more = {}) => (await ask("POST", `/jobs/${jobId}/fork`, more)).job,
    runNow: (jobId) => ask("POST", `/jobs/${jobId}/run-now`),
    change: async (jobId, changes, { ifStill } = {}) =>
      ask("PATCH", `/jobs/${jobId}`, changes, ifStill ? { "If-Match": tagOf(ifStill) } : {}),
    watch: (jobId, more = {}) => watchJob(`${root}/jobs/${jobId}`, { ...options, ...more }),
  };
  return client;
}

/**
 * Follow a job by its status URL. Calls `onChange(job, event)` for everything that happens, in order and once, and
 * resolves with the job when it has ended. Comes back by itself when the connection is lost, and asks now and then
 * where there is no stream to be had.
 */
export async function watchJob(url, options = {}) {
  let job = UNKNOWN;
  let ended;
  const tell = (event) => {
    job = changed(job, event);
    try {
      options.onChange?.(job, event);
    } catch (error) {
      reportError(error); // it is the page's, and no reason to connect anew
    }
    if (FINAL.includes(job.status)) ended?.();
  };
  const hasEnded = new Promise((resolve) => (ended = () => resolve()));
  const follows = follow(url, options, tell, () => job);
  // A line may still come after the end, and is told; nobody has to wait for it.
  follows.catch(() => {});
  await Promise.race([hasEnded, follows]);
  return job;
}

/** `const { useJob } = reactHooks(React)`, and in a component `const job = useJob(statusUrl, { token })`. */
export function reactHooks(React) {
  function useJob(url, options = {}) {
    const [known, setKnown] = React.useState({ url, job: UNKNOWN });
    const newest = React.useRef(options);
    React.useEffect(() => {
      newest.current = options;
    });
    // A function that is written where it is given is another one at every render: no reason to connect anew.
    const token = typeof options.token === "function" || options.token;
    React.useEffect(() => {
      if (!url) return undefined;
      const stop = new AbortController();
      const show = (job) => {
        if (!stop.signal.aborted) setKnown((last) => ({ url, job: job(last.url === url ? last.job : UNKNOWN) }));
      };
      watchJob(url, {
        ...options,
        token: () => tokenOf(newest.current),
        onChange: (job) => show(() => job),
        signal: stop.signal,
      }).catch((failure) => show((last) => ({ ...last, failure })));
      return () => stop.abort();
    }, [url, token]);
    // Until something is known of this job, the former one's state is not shown as its own.
    return known.url === url ? known.job : UNKNOWN;
  }
  return { useJob };
}

async function follow(url, options, tell, current) {
  const place = { id: "" };
  let failures = 0;
  while (!FINAL.includes(current().status)) {
    let asked = 0;
    try {
      await readStream(`${url}/events`, options, place, (event) => {
        failures = 0;
        tell(event);
      });
    } catch (error) {
      options.signal?.throwIfAborted();
      requirePassing(error);
      failures += 1;
      // No place for a stream, or something in between that keeps it back: ask instead, and then try again.
      if (error.status === TOO_MANY) asked = error.retryAfter ?? 0;
      else if (error instanceof ApiError || error instanceof Silent || failures > 3) asked = await poll(url, options, tell, current);
    }
    if (!FINAL.includes(current().status)) await pause(failures, asked, options.signal);
  }
}

/** What will be the same the next time is the caller's to know. */
function requirePassing(error) {
  if (error instanceof ApiError && error.status < 500 && error.status !== TOO_MANY) throw error;
}

class Silent extends Error {}

async function readStream(url, options, place, tell) {
  const silence = new AbortController();
  const stop = () => silence.abort(options.signal?.reason);
  options.signal?.addEventListener("abort", stop);
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(new Silent("the stream is silent")), SILENCE);
  };
  try {
    alive();
    const headers = place.id ? { "Last-Event-ID": place.id } : {};
    const answer = await send(url, options, "GET", undefined, { ...headers, Accept: "text/event-stream" }, silence.signal);
    const decoder = new TextDecoder();
    const reader = answer.body.getReader();
    let rest = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      alive();
      const blocks = (rest + decoder.decode(part.value, { stream: true })).split("\n\n");
      rest = blocks.pop();
      for (const event of blocks.map(readEvent)) {
        if (event.id) place.id = event.id;
        if (event.data !== undefined) tell(event);
      }
    }
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", stop);
  }
}

function readEvent(block) {
  const event = { name: "message" };
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at <= 0) continue;
    const value = line.slice(at + 1).replace(/^ /, "");
    if (line.startsWith("event:")) event.name = value;
    else if (line.startsWith("id:")) event.id = value;
    else if (line.startsWith("data:")) event.data = JSON.parse(value);
  }
  return event;
}

function changed(job, { name, data }) {
  const next = { ...job, id: data.jobId ?? data.id ?? job.id };
  if (name === "job.log") {
    next.log = [...job.log, { epoch: data.epoch, line: data.line, level: data.level, message: data.message, at: data.at }];
    if (next.log.length > MOST_LINES) next.log.shift();
  } else if (name === "job.progress") {
    next.progress = data.progress;
  } else if (data.status) {
    next.status = data.status;
    next.error = data.error ?? null;
    next.result = data.result ?? null;
    if (data.progress !== undefined) next.progress = data.progress;
    else if (data.status === "running") next.progress = null;
  }
  return next;
}

/**
 * What a stream would have said, as far as the job itself still shows it: its log lines come with the next stream.
 * Resolves with the seconds for which the server wants to be left alone.
 */
async function poll(url, options, tell, current) {
  try {
    const found = await request(`${url}?wait=${POLL_SECONDS}`, options, "GET");
    const said = JSON.stringify([found.status, found.progress, found.result, found.error]);
    const { status, progress, result, error } = current();
    if (said !== JSON.stringify([status, progress, result, error])) {
      tell({ name: `job.${found.status}`, data: found, polled: true });
    }
    return 0;
  } catch (error) {
    options.signal?.throwIfAborted();
    requirePassing(error);
    return error.retryAfter ?? 0;
  }
}

/** Asks again where that is harmless: what changes something goes with a key by which the server does it once. */
async function insist(url, options, method, body, guards = {}) {
  const headers = method === "GET" ? guards : { ...guards, "Idempotency-Key": newKey() };
  for (let failures = 1; ; failures += 1) {
    try {
      return await request(url, options, method, body, headers);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (failures >= (options.tries ?? TRIES) || !mayPass(error, method)) throw error;
      await pause(failures, error.retryAfter ?? 0, options.signal);
    }
  }
}

/** A full quota is the caller's to know of, and not waited out. A TypeError is how `fetch` says that nobody answers. */
function mayPass(error, method) {
  if (!(error instanceof ApiError)) return error instanceof TypeError;
  if (error.status === TOO_MANY) return method === "GET";
  return PASSES.includes(error.status) || String(error.problem.type).endsWith(":request-under-way");
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function request(url, options, method, body, headers = {}) {
  const answer = await send(url, options, method, body, { ...headers, Accept: "application/json" }, options.signal);
  const found = await answer.json();
  const etag = answer.headers.get("ETag");
  return etag ? { ...found, etag } : found;
}

/** Without a tag nothing would be guarded, and nobody would notice. */
function tagOf(job) {
  if (!job.etag) throw new TypeError(`job ${job.id} is from a list or an enqueue, which have no entity tags: get() it first`);
  return job.etag;
}

async function send(url, options, method, body, headers, signal) {
  const token = await tokenOf(options);
  const sent = { ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const doFetch = options.fetch ?? globalThis.fetch;
  const answer = await doFetch(url, {
    method,
    headers: sent,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
    cache: "no-store",
  });
  if (answer.ok) return answer;
  const problem = (await answer.json().catch(() => null)) ?? {}; // a proxy answers what it likes
  throw new ApiError(answer.status, problem, Number(answer.headers.get("Retry-After")) || undefined);
}

function tokenOf(options) {
  return typeof options.token === "function" ? options.token() : options.token;
}

function pause(failures, asked, signal) {
  const most = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures);
  const least = Math.min(asked, LONGEST_ASKED) * 1000;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, Math.max(least, most / 2) + (Math.random() * most) / 2);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
