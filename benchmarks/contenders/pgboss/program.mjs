// pg-boss, driven by the words of ../protocol.py. A backlog is drained by its own workers in the configuration that
// was fastest here: batches of 500, two of them at a time, a result for each job. Jobs that take their time are fetched
// one by one by as many loops as there are slots, with a cap on what a workspace may run.
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { PgBoss } from 'pg-boss';

const QUEUE = 'bench';
const BATCH = 500;
const LOOPS = 2;
const BULK = 1000;
// What one workspace may run at a time: without a cap pg-boss is first in, first out.
const CAP = 2;

const now = () => Number(process.hrtime.bigint()) / 1e9;
const answer = (facts) => process.stdout.write(`${JSON.stringify(facts)}\n`);
const payload = (size) => ({ source: 'crm', mode: 'incremental', filler: 'x'.repeat(Math.max(1, size - 50)) });
const stamp = (key, ms = 0) => ({ key, ms });
const times = (count, make) => Array.from({ length: count }, (_, number) => make(number));

async function open(options = {}) {
  const url = new URL(process.env.BENCH_DATABASE_URL.replace('@/', '@socket/'));
  const boss = new PgBoss({
    host: url.searchParams.get('host'),
    user: url.username,
    database: url.pathname.slice(1),
    ...options,
  });
  boss.on('error', (error) => process.stderr.write(`${error.stack}\n`));
  await boss.start();
  return boss;
}

async function timed(jobs, work) {
  const start = now();
  await work();
  answer({ jobs, seconds: now() - start });
}

async function insertMany(boss, jobs) {
  for (let start = 0; start < jobs.length; start += BULK) await boss.insert(QUEUE, jobs.slice(start, start + BULK));
}

async function install() {
  const boss = await open();
  await boss.createQueue(QUEUE, { notify: true });
  answer({});
}

async function load(jobs, _workspaces, size) {
  await insertMany(await open(), times(jobs, () => ({ data: payload(size) })));
  answer({});
}

async function enqueueSingle(jobs, size) {
  const boss = await open();
  await boss.send(QUEUE, payload(size));
  await timed(jobs, async () => {
    for (let number = 0; number < jobs; number += 1) await boss.send(QUEUE, payload(size));
  });
}

async function enqueueBulk(batches, batch, size) {
  const boss = await open();
  const jobs = () => times(batch, () => ({ data: payload(size) }));
  await boss.insert(QUEUE, jobs());
  await timed(batches * batch, async () => {
    for (let number = 0; number < batches; number += 1) await boss.insert(QUEUE, jobs());
  });
}

async function drain(jobs) {
  const boss = await open();
  answer({ pid: process.pid });
  await word();
  await timed(jobs, () => new Promise((drained) => {
    let seen = 0;
    const options = { batchSize: BATCH, burstWhenBatchFull: true, localConcurrency: LOOPS, perJobResults: true };
    boss.work(QUEUE, options, async (batch) => {
      seen += batch.length;
      if (seen >= jobs) allCompleted(boss).then(drained);
      return batch.map(({ id }) => ({ id, status: 'completed' }));
    });
  }));
  await word();
}

// The last batch has been handled; what is left is its completion.
async function allCompleted(boss) {
  for (;;) {
    const { rows } = await boss.getDb().executeSql("select from pgboss.job where state < 'completed' limit 1");
    if (rows.length === 0) return;
    await sleep(2);
  }
}

async function serve(jobs, slots, onlyQuiet = 0) {
  const boss = await open({ useListenNotify: true });
  const started = {};
  let ended = 0;
  const run = async (job) => {
    started[job.data.key] = now();
    if (job.data.ms) await sleep(job.data.ms);
  };
  const count = (batch) => {
    ended += batch.filter(({ data }) => !onlyQuiet || data.key.startsWith('quiet')).length;
    if (ended === jobs) answer({ started });
  };
  if (slots) times(slots, () => serveLoop(boss, run, count, () => ended === jobs));
  else await boss.work(QUEUE, { batchSize: 1, pollingIntervalSeconds: 0.5 }, async ([job]) => {
    await run(job);
    count([job]);
  });
  answer({ pid: process.pid });
}

async function serveLoop(boss, run, count, finished) {
  while (!finished()) {
    const batch = await boss.fetch(QUEUE, { batchSize: 1, groupConcurrency: CAP });
    for (const job of batch) {
      await run(job);
      await boss.complete(QUEUE, job.id);
    }
    count(batch);
    if (batch.length === 0) await sleep(5);
  }
}

async function feed(jobs, rate) {
  const boss = await open();
  const committed = {};
  const start = now();
  for (let number = 0; number < jobs; number += 1) {
    await sleep(Math.max(0, 1000 * (start + number / rate - now())));
    await boss.send(QUEUE, stamp(String(number)));
    committed[number] = now();
  }
  answer({ committed });
  await word();
}

async function crowd(backlog, noisy, keys, longer, quiet, each, milliseconds) {
  const boss = await open();
  const committed = {};
  await insertMany(boss, times(backlog, (number) => {
    const owner = `noisy ${number % noisy}`;
    const key = Math.floor(number / noisy) % keys;
    return { data: stamp(`${owner} ${number}`, milliseconds * longer), group: { id: `${owner} key ${key}` } };
  }));
  await sleep(300);
  for (let number = 0; number < quiet; number += 1) {
    const owner = `quiet ${number}`;
    const data = (nth) => stamp(nth ? `${owner} ${nth}` : owner, milliseconds);
    if (each === 1) await boss.send(QUEUE, data(0), { group: { id: owner } });
    else await boss.insert(QUEUE, times(each, (nth) => ({ data: data(nth), group: { id: owner } })));
    committed[owner] = now();
  }
  answer({ committed });
  await word();
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const word = () => lines.next();

const actions = {
  install, load, drain, serve, feed, crowd, enqueue_single: enqueueSingle, enqueue_bulk: enqueueBulk,
};
const [action, ...numbers] = process.argv.slice(2);
await actions[action](...numbers.map(Number));
if (action !== 'serve') process.exit(0);
