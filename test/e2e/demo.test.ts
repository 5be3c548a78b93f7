import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { parsePrices } from '../../bin/price.ts';
import { readSegments } from '../../connector/metering/segments.ts';
import { verifyAnchor } from '../../contracts/anchor/proof.ts';
import { errorTable } from '../../contracts/errors.ts';
import type { Units } from '../../contracts/ledger/forms.ts';
import { readNote } from '../../contracts/ledger/note.ts';
import { addUnits, amountOf, type PricePlan, pricePlanDigest } from '../../contracts/ledger/price-plan.ts';
import { packedReceipts, trustFile } from '../../contracts/ledger/receipt.ts';
import { readStatementArtifact } from '../../contracts/ledger/statement.ts';
import { type UsageClose, type UsageOpen, usageEntry } from '../../contracts/ledger/usage-entry.ts';
import { claims } from '../../demo/stage/claims.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { nodeFiles } from '../../kernel/files.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { buildVerifier } from '../../scripts/build-verifier.ts';
import { type DemoRun, repository, startDemo } from '../support/demo-run.ts';

/** The demo is run once as a process; what it says is then recomputed from the files that it left. */

const run = promisify(execFile);

const summaryForm = z.strictObject({
  accesses: z.number().int(),
  receiptsVerified: z.number().int(),
  refusals: z.array(z.strictObject({ case: z.string(), status: z.number().int(), reason: z.string().min(10) })),
  anchors: z.array(
    z.strictObject({
      size: z.number().int(),
      chainId: z.string(),
      contract: z.string(),
      transaction: z.string().regex(/^0x[0-9a-f]{64}$/),
      blockNumber: z.number().int(),
      blockHash: z.string().regex(/^0x[0-9a-f]{64}$/),
    }),
  ),
  stops: z.strictObject({ revocationMs: z.number().int() }),
  amounts: z.array(
    z.strictObject({
      agreement: z.string(),
      from: z.string(),
      to: z.string(),
      currency: z.string(),
      scale: z.string(),
      value: z.string(),
    }),
  ),
});

const verdicts = z.looseObject({
  files: z.array(
    z.looseObject({ code: z.number(), steps: z.array(z.looseObject({ step: z.number(), state: z.string() })) }),
  ),
});

const place = mkdtempSync(join(tmpdir(), 'stekker-demo-'));
const data = join(place, 'run');
const holders = ['places', 'borders', 'water'] as const;
type Holder = (typeof holders)[number];

/** Grants that a consumer was given, as its rows hold them while a transfer is open: behind its end they are gone. */
const grants = new Set<string>();
const noteGrants = (service: string): void => {
  const path = join(data, service, 'connector.sqlite');
  if (!existsSync(path)) return;
  try {
    using db = new DatabaseSync(path, { readOnly: true });
    const rows = db.prepare("select data from process where protocol = 'transfers'").all();
    for (const [, grant = ''] of JSON.stringify(rows).matchAll(/grant\\*",\\*"value\\*":\\*"([\w-]{20,})/g))
      grants.add(grant);
  } catch {
    // the tables are just being made; the next look finds them
  }
};

let demo: DemoRun;
let exitCode: number;
let leftRunning: readonly string[];
let summary: z.infer<typeof summaryForm>;

beforeAll(async () => {
  demo = startDemo(['--json', '--data', data]);
  const watching = setInterval(() => noteGrants('runtime'), 100);
  exitCode = await demo.ended;
  clearInterval(watching);
  leftRunning = demo.alive();
  expect([exitCode, demo.err()]).toEqual([0, '']);
  summary = summaryForm.parse(JSON.parse(demo.out()));
});
afterAll(() => rmSync(place, { recursive: true, force: true }));

const filesBelow = (folder: string): readonly string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

const receiptFiles = (): readonly string[] => filesBelow(join(data, 'receipts'));
const readPacked = (file: string) => packedReceipts.parse(JSON.parse(readFileSync(file, 'utf8')));
const receiptsOf = (holder: Holder) => filesBelow(join(data, 'receipts', holder)).map(readPacked);

interface Access {
  readonly open: UsageOpen;
  readonly close: UsageClose | undefined;
}

/** A journal as the product's own reader reads it, by request and part. */
const journalOf = async (service: string, role: 'provider' | 'consumer'): Promise<readonly Access[]> => {
  const opens: UsageOpen[] = [];
  const closes = new Map<string, UsageClose>();
  const visit = (text: string): void => {
    const entry = usageEntry.parse(JSON.parse(text));
    if (entry.t === 'open') opens.push(entry);
    else closes.set(`${entry.agreement} ${entry.request} ${entry.part}`, entry);
  };
  await readSegments({ files: nodeFiles, folder: join(data, `${service}-journal`, role), from: undefined, visit });
  return opens.map((open) => ({ open, close: closes.get(`${open.agreement} ${open.request} ${open.part}`) }));
};

/** The terms that each holder publishes in the demo, as its command line says them. */
const priceTexts: Readonly<Record<Holder, readonly string[]>> = {
  places: ['0.02 EUR per request'],
  borders: [],
  water: ['0.05 EUR per request', '0.2500 EUR per MB'],
};

const planOf = (holder: Holder): PricePlan | undefined => {
  const price = parsePrices(priceTexts[holder]);
  return price && { v: 1, type: 'price-plan', ...price, lines: [...price.lines], notice: '', free: false };
};

const totalsOf = (accesses: readonly Access[]): Units =>
  accesses.reduce<Units>((sum, { close }) => addUnits(sum, close?.units ?? {}), {});

describe('demo', () => {
  test('ends by itself with one JSON value of the promised form, and leaves nothing running', () => {
    expect(exitCode).toBe(0);
    expect(demo.out().trimEnd().split('\n')).toHaveLength(1);
    expect(leftRunning).toEqual([]);
  });

  test('counts and amounts are those of the journals of both sides', async () => {
    const bought = await journalOf('runtime', 'consumer');
    let accesses = 0;
    for (const holder of holders) {
      const sold = await journalOf(holder, 'provider');
      accesses += sold.length;
      const [agreement] = new Set(sold.map(({ open }) => open.agreement));
      const both = bought.filter(({ open }) => open.agreement === agreement);
      const facts = ({ open, close }: Access) => [
        open.request,
        open.purpose,
        close?.bytes,
        close?.digest,
        close?.units,
      ];
      const served = new Set(sold.map(({ open }) => open.request));
      const shared = both.filter(({ open }) => served.has(open.request));
      expect(shared.map(facts).toSorted()).toEqual(sold.map(facts).toSorted());
      // What the provider refused is in the consumer's journal alone, and costs nothing.
      expect(totalsOf(both)).toEqual(totalsOf(sold));

      const plan = planOf(holder);
      const amount = plan && amountOf(plan, totalsOf(sold));
      const receipts = receiptsOf(holder);
      const said = summary.amounts.find((one) => receipts[0]?.records[0]?.record.agreement === one.agreement);
      expect(said?.value).toBe(amount?.ok === true ? String(amount.value) : '0');
      expect([said?.currency, said?.scale]).toEqual(plan === undefined ? ['', '0'] : [plan.currency, plan.scale]);
      const price = plan === undefined ? '' : pricePlanDigest(nodeCrypto, plan);
      const records = receipts.flatMap((one) => one.records.map(({ record }) => record));
      expect(records.map(({ request }) => request).toSorted()).toEqual([...served].toSorted());
      expect(records.filter((record) => record.price !== price)).toEqual([]);
    }
    expect(accesses).toBeGreaterThan(10);
    expect(summary).toMatchObject({ accesses, receiptsVerified: accesses });
    expect(summary.amounts).toHaveLength(3);
  });

  test('the last statement of each agreement is final and signed by both, and says who owes whom', () => {
    for (const holder of holders) {
      const statements = receiptsOf(holder).map(({ statement }) => readStatementArtifact(statement.artifact));
      const values = statements.map((read) => (read.ok ? read.value : undefined));
      const last = values.find((one) => one?.value.final === true);
      expect(last?.jws.signatures).toHaveLength(2);
      const said = summary.amounts.find(({ agreement }) => agreement === last?.value.agreement);
      expect(said).toMatchObject({ from: last?.value.consumer, to: last?.value.provider });
    }
  });

  test('every refusal has its documented status and a reason', () => {
    const statuses = Object.fromEntries(summary.refusals.map((one) => [one.case, one.status]));
    expect(statuses).toEqual({
      'replayed-proof': errorTable['request-repeated'].status,
      'wrong-purpose': errorTable['policy-denied'].status,
      'version-not-accredited': errorTable['policy-denied'].status,
      'revoked-membership': errorTable.revoked.status,
    });
    expect(statuses).toMatchObject({ 'replayed-proof': 409, 'wrong-purpose': 403, 'revoked-membership': 403 });
    const reasons = Object.fromEntries(summary.refusals.map((one) => [one.case, one.reason]));
    expect(reasons['wrong-purpose']).toContain('purpose:marketing');
    expect(reasons['version-not-accredited']).toContain('accreditation');
    expect(summary.stops.revocationMs).toBeLessThanOrEqual(5_000);
  });

  test('what was refused is in no journal of a provider', async () => {
    const sold = (await Promise.all(holders.map((holder) => journalOf(holder, 'provider')))).flat();
    expect(sold.filter(({ open }) => open.purpose !== 'urn:stekker:1:purpose:crisis')).toEqual([]);
    expect(sold.filter(({ open }) => !open.application.endsWith('@1.0.0'))).toEqual([]);
    const keys = sold.map(({ open }) => `${open.agreement} ${open.request} ${open.part}`);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test('each receipt rests on an anchor in a block that the trust file pins', () => {
    const trust = trustFile.parse(JSON.parse(readFileSync(join(data, 'trust.json'), 'utf8')));
    const sizes = new Set<number>();
    for (const { checkpoint, anchors } of receiptFiles().map(readPacked)) {
      const note = readNote(checkpoint);
      if (!note.ok) throw new Error(note.reason);
      sizes.add(note.value.checkpoint.size);
      const tools = { keccak256, sha256: nodeCrypto.sha256 };
      expect(anchors.map((one) => verifyAnchor(tools, one, note.value.checkpoint, trust.chains).state)).toEqual([
        'authenticated',
      ]);
    }
    expect(new Set(summary.anchors.map(({ size }) => size))).toEqual(sizes);
    const pinned = trust.chains.flatMap(({ blocks }) => blocks);
    expect(summary.anchors.filter(({ blockHash }) => !pinned.includes(blockHash))).toEqual([]);
  });

  test('the result names its inputs by digest, and each of them has a receipt', () => {
    const nodes = z.array(z.looseObject({ 'stekker:request': z.string().optional(), '@id': z.string() }));
    const file = readFileSync(join(data, 'result', 'evacuatie.prov.jsonld'), 'utf8');
    const graph = nodes.parse(JSON.parse(file)['@graph']);
    const inputs = graph.filter((one) => one['stekker:request'] !== undefined);
    const records = receiptFiles().flatMap((one) => readPacked(one).records.map(({ record }) => record));
    expect(inputs.length).toBeGreaterThan(4);
    for (const input of inputs) {
      const record = records.find(({ request }) => request === input['stekker:request']);
      expect(input['@id']).toBe(`urn:stekker:1:sha256:${record?.digest}`);
    }
    expect(readFileSync(join(data, 'result', 'evacuatie.geojson'), 'utf8')).toContain('synthetisch');
  });

  test('receipts verify again with the one-file verifier alone, and a flipped byte fails', async () => {
    const empty = join(place, 'drawer');
    mkdirSync(empty);
    await buildVerifier(join(empty, 'stekker-verify.mjs'));
    cpSync(join(data, 'trust.json'), join(empty, 'trust.json'));
    const names = receiptFiles().map((file) => relative(join(data, 'receipts'), file).replaceAll('/', '-'));
    for (const [index, file] of receiptFiles().entries()) cpSync(file, join(empty, names[index] ?? ''));
    /** Exit code and anchor of each file, by a process that has nothing but the folder. */
    const verify = async (files: readonly string[]): Promise<readonly string[]> => {
      const args = ['stekker-verify.mjs', ...files, '--trust', 'trust.json', '--json'];
      const done = await run(process.execPath, args, { cwd: empty, env: {} }).catch((error: unknown) => error);
      const { stdout } = z.looseObject({ stdout: z.string() }).parse(done);
      const anchorOf = (steps: z.infer<typeof verdicts>['files'][number]['steps']) =>
        steps.find(({ step }) => step === 6)?.state ?? 'not reached';
      return verdicts.parse(JSON.parse(stdout)).files.map(({ code, steps }) => `${code}, anchor ${anchorOf(steps)}`);
    };
    expect(await verify(names)).toEqual(names.map(() => '0, anchor ok'));
    const flipped = names.flatMap((name) => {
      const text = readFileSync(join(empty, name));
      return [0.03, 0.2, 0.4, 0.6, 0.8, 0.97].map((share) => {
        const at = Math.floor(text.length * share);
        const changed = Buffer.from(text);
        changed[at] = (changed[at] ?? 0) ^ 1;
        const file = `${at}-${name}`;
        writeFileSync(join(empty, file), changed);
        return file;
      });
    });
    const found = await verify(flipped);
    // A byte in an anchor makes it one of a block that nobody vouches for: it counts for nothing (ledger §11), the rest stands.
    const isFound = (verdict: string) => /^[12],/.test(verdict) || verdict === '0, anchor none';
    expect(
      flipped.map((file, index) => `${file}: ${found[index]}`).filter((line) => !isFound(line.split(': ')[1] ?? '')),
    ).toEqual([]);
    expect(found.filter((verdict) => verdict.startsWith('0')).length).toBeLessThan(found.length / 2);
  });

  test('no secret of the run is in any log', () => {
    const secrets = filesBelow(join(data, 'secrets'))
      .filter((file) => !file.endsWith('anchor.key')) // the key of anvil's first account, which everybody knows
      .filter((file) => !file.endsWith('.json'))
      .map((file) => readFileSync(file, 'utf8').trim());
    const copied: { headers: Record<string, string> } = JSON.parse(
      readFileSync(join(data, 'secrets', 'copied-request.json'), 'utf8'),
    );
    const carried = ['authorization', 'dpop'].map((name) => (copied.headers[name] ?? '').replace(/^\w+ /, ''));
    expect(grants.size).toBeGreaterThanOrEqual(3);
    const all = [...secrets, ...carried, ...grants];
    expect(all.length).toBeGreaterThanOrEqual(22);
    expect(all.filter((secret) => secret.length < 20)).toEqual([]);
    const logs = filesBelow(join(data, 'logs'));
    expect(logs.length).toBeGreaterThan(16);
    for (const file of logs) {
      const text = readFileSync(file, 'utf8');
      expect(
        all.filter((secret) => text.includes(secret)),
        file,
      ).toEqual([]);
      // No signed token of any kind: they all begin with the encoding of `{"`.
      expect(/eyJ[\w-]{10,}\.[\w-]+/.exec(text)?.[0], file).toBeUndefined();
    }
    expect(all.filter((secret) => demo.out().includes(secret))).toEqual([]);
  });

  test('claims nothing that is not tested, and names what is simulated', () => {
    const pages = filesBelow(join(repository, 'docs/acceptance')).map((file) => readFileSync(file, 'utf8'));
    const proven = claims.filter(({ state }) => state === 'works');
    for (const claim of claims) {
      if (claim.state === 'works')
        expect(
          pages.some((page) => page.includes(`| ${claim.test} |`)),
          claim.test,
        ).toBe(true);
      else expect(claim.instead).not.toBe('');
    }
    expect(proven.length).toBeGreaterThan(2);
  });
});

describe('a demo that does not come to its end', () => {
  test('an interrupt stops everything', async () => {
    await using story = startDemo(['--data', join(place, 'interrupted')]);
    await story.says(/2\. Everybody joins/);
    expect(story.alive().length).toBeGreaterThan(9);
    story.child.kill('SIGINT');
    expect(await story.ended).toBe(130);
    expect(story.alive()).toEqual([]);
    expect(story.err()).toBe('');
  });

  test('a failure names the step, shows what the services said, and stops everything', async () => {
    await using story = startDemo(['--data', join(place, 'failed')]);
    const [, broker = ''] = await story.says(/broker +Makelaar Voorbeeld +\S+ +(\d+)/);
    process.kill(Number(broker), 'SIGKILL');
    expect(await story.ended).toBe(1);
    expect(story.err()).toMatch(/demo: "[^"]+" failed: /);
    expect(story.err()).toContain('.out:');
    expect(story.alive()).toEqual([]);
  });

  test('a folder that holds something else is left alone', async () => {
    const folder = join(place, 'mine');
    mkdirSync(folder);
    writeFileSync(join(folder, 'thesis.txt'), 'years of work');
    await using story = startDemo(['--data', folder]);
    expect(await story.ended).toBe(2);
    expect(story.err()).toContain('choose another folder');
    expect(readdirSync(folder)).toEqual(['thesis.txt']);
    await using wrong = startDemo(['--jsom']);
    expect(await wrong.ended).toBe(2);
    expect(existsSync(join(folder, 'thesis.txt'))).toBe(true);
  });
});

describe('a demo that is kept', () => {
  test('goes on running until it is interrupted, with its addresses printed', async () => {
    await using story = startDemo(['--keep', '--data', join(place, 'kept')]);
    const [, gateway = ''] = await story.says(/gateway for applications of the runtime: (\S+)/);
    const [, broker = ''] = /broker +(http:\/\/localhost:\d+) /.exec(story.out()) ?? [];
    expect((await fetch(`${broker}/health`)).status).toBe(200);
    expect((await fetch(gateway)).status).toBe(404);
    story.child.kill('SIGINT');
    expect(await story.ended).toBe(0);
    expect(story.alive()).toEqual([]);
  });
});
