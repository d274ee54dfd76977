/** The browser's client of jobplatform, version 1. */

export type Status = "pending" | "running" | "completed" | "failed" | "cancelled";

export type Outcome = "ok" | "skipped" | "error" | "timeout" | "lost" | "cancelled" | "discarded";

/** When a job runs that waits for another: if that completed, however it ended, or only if it did not complete. */
export type RunIf = "completed" | "ended" | "failed";

export interface Progress {
  current: number | null;
  total: number | null;
  message: string | null;
}

export interface JobError {
  type: string;
  message: string;
}

/** What a job waits for, or did: a job or a batch, and how that is. `status` is null when it is not kept any more. */
export interface Wait {
  jobId?: string;
  batchId?: string;
  runIf: RunIf;
  status: string | null;
}

/** A job or a batch that a new job is to wait for: one of both. */
export interface Edge {
  jobId?: string;
  batchId?: string;
  /** `completed`. */
  runIf?: RunIf;
}

/** A job, as the API shows it. */
export interface Job<Result = unknown, Payload = unknown> {
  id: string;
  workspaceId: string;
  jobType: string;
  queue: string;
  status: Status;
  outcome: Outcome | null;
  priority: number;
  payload: Payload;
  progress: Progress | null;
  result: Result | null;
  error: JobError | null;
  attempts: number;
  maxAttempts: number;
  timeoutMs: number;
  startWithinMs: number | null;
  uniqueKey: string | null;
  tags: string[];
  requestId: string | null;
  createdAt: string;
  runAfter: string;
  /** If it has not begun by then it is cancelled. Null once it has, and without `startWithinMs`. */
  startBy: string | null;
  startedAt: string | null;
  completedAt: string | null;
  cancelRequestedAt: string | null;
  /** The worker that runs it, or ran its last attempt. */
  workerId: number | null;
  /** Its host and process, for operators. */
  worker: string | null;
  parentId: string | null;
  batchId: string | null;
  after: Wait[];
  statusUrl: string;
  eventsUrl: string;
  /** What the server calls this state of it. A job from a list or an enqueue has none. */
  etag?: string;
}

/** A job, and whether the enqueue found it there already, or found it waiting and made it what it is now. */
export interface EnqueuedJob<Result = unknown, Payload = unknown> extends Job<Result, Payload> {
  deduplicated: boolean;
  replaced: boolean;
}

export interface LogLine {
  epoch: number;
  line: number;
  level: string;
  message: string;
  at: string;
}

/** A job that is being watched: what is known of it by now. `status` is null until the first event. */
export interface WatchedJob<Result = unknown> {
  id?: string;
  status: Status | null;
  progress: Progress | null;
  result: Result | null;
  error: JobError | null;
  /** The last thousand lines. */
  log: LogLine[];
  /** Why nothing more comes; set by `useJob` alone. */
  failure?: unknown;
}

export interface JobEvent {
  /** `job.pending`, `job.running`, `job.progress`, `job.log`, `job.completed`, `job.failed`, `job.cancelled`. */
  name: string;
  id?: string;
  data: Record<string, unknown>;
  /** It was asked for, and not streamed. */
  polled?: boolean;
}

export interface Options {
  /** A token, or a function that has a fresh one. Without it the browser's cookies decide. */
  token?: string | (() => string | Promise<string>);
  signal?: AbortSignal;
  fetch?: typeof fetch;
}

export interface ClientOptions extends Options {
  /** How often a request is sent at most, while nobody answers it; 5. What changes something is done once all the same. */
  tries?: number;
}

export interface WatchOptions<Result = unknown> extends Options {
  onChange?: (job: WatchedJob<Result>, event: JobEvent) => void;
}

export interface EnqueueOptions {
  priority?: number;
  runAfter?: string;
  delayMs?: number;
  /** With `ifActive: "replace"` and `delayMs`: how long after the first request further ones can put the job off. */
  longestDelayMs?: number;
  maxAttempts?: number;
  timeoutMs?: number;
  /** How soon it has to begin, from when it is due; one that has not by then is never started, and cancelled. */
  startWithinMs?: number;
  queue?: string;
  uniqueKey?: string;
  /** For so long after the last job of the key was made it has no other, also when that has completed. */
  uniqueForMs?: number;
  tags?: string[];
  /** An open batch that the job is to belong to. */
  batchId?: string;
  after?: Edge[];
  /** When there is an unfinished job of the same key, or a recent one: be refused, get that job, or have it become this one. */
  ifActive?: "refuse" | "return" | "replace";
}

/** What is to be different about a job that has not begun. What is not named stays. */
export interface JobChange {
  priority?: number;
  /** `null`: it waits for no moment any more. */
  runAfter?: string | null;
  queue?: string;
}

export interface RetryOptions {
  /** Do this step, and what was done after it, again. Without it the job goes on after all that is done. */
  fromStep?: string;
  /** Do every step again. */
  fromStart?: boolean;
}

export interface ForkOptions {
  /** Do this step, and what was done after it, again. Without it the new job goes on after all that is done. */
  fromStep?: string;
  /** Do every step again. */
  fromStart?: boolean;
  payload?: unknown;
}

export interface Client {
  enqueue<Result = unknown>(jobType: string, payload?: unknown, options?: EnqueueOptions): Promise<EnqueuedJob<Result>>;
  get<Result = unknown>(jobId: string): Promise<Job<Result>>;
  list(filters?: Record<string, string>): AsyncGenerator<Job>;
  cancel(jobId: string): Promise<Job>;
  retry(jobId: string, options?: RetryOptions): Promise<Job>;
  /** A new job like one that has ended, which stays as it is. Resolves with the new one. */
  fork<Result = unknown>(jobId: string, options?: ForkOptions): Promise<Job<Result>>;
  runNow(jobId: string): Promise<Job>;
  /** `ifStill`: only if the job is as it was when it was read so; else an ApiError of status 412. */
  change(jobId: string, changes: JobChange, guards?: { ifStill?: Job }): Promise<Job>;
  watch<Result = unknown>(jobId: string, options?: WatchOptions<Result>): Promise<WatchedJob<Result>>;
}

export class ApiError extends Error {
  readonly status: number;
  readonly problem: { type?: string; title?: string; detail?: string; [member: string]: unknown };
  readonly retryAfter?: number;
}

export function createClient(baseUrl: string, workspaceId: string, options?: ClientOptions): Client;

export function watchJob<Result = unknown>(url: string, options?: WatchOptions<Result>): Promise<WatchedJob<Result>>;

interface ReactLike {
  useState: (initial: never) => [never, (next: never) => void];
  useRef: (initial: never) => { current: never };
  useEffect: (effect: () => (() => void) | undefined, dependencies?: unknown[]) => void;
}

/** `useJob` connects anew when the URL or a token that is a string changes; a function may be another at every render. */
export function reactHooks(React: ReactLike | object): {
  useJob: <Result = unknown>(url: string | null | undefined, options?: Omit<Options, "signal">) => WatchedJob<Result>;
};
