import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Operator } from '../../demo/stage/cli.ts';
import { createTerminal } from '../../demo/stage/cli.ts';
import { type Folder, prepareFolder } from '../../demo/stage/folder.ts';
import { joinEverybody } from '../../demo/stage/joining.ts';
import { freePorts } from '../../demo/stage/processes.ts';
import { createReport } from '../../demo/stage/report.ts';
import { type Stack, startStack } from '../../demo/stage/stack.ts';
import { repository } from '../support/demo-run.ts';

/**
 * Every command line of the README and of the guides, run as it stands there: only the names of example hosts, and what a
 * person would copy from an earlier answer (CODE, AGREEMENT, OFFER), are replaced. The data space is that of the demo.
 */

const run = promisify(execFile);
const pages = [
  'README.md',
  'docs/guides/data-owner.md',
  'docs/guides/application-runtime.md',
  'docs/guides/auditor.md',
];

interface Line {
  readonly page: string;
  readonly text: string;
}

const linesOf = (page: string): readonly Line[] =>
  [...readFileSync(join(repository, page), 'utf8').matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block = '']) =>
    block
      .split('\n')
      .map((text) => text.replace(/ +# .*$/, '').trim())
      .filter((text) => text !== '')
      .map((text) => ({ page, text })),
  );

const unused: Line[] = pages.flatMap(linesOf);
const count = unused.length;

/** Takes the next line that begins so; each line is taken once. */
const take = (beginning: string, page?: string): Line => {
  const index = unused.findIndex(
    (line) => line.text.startsWith(beginning) && (page === undefined || line.page === page),
  );
  const [line] = index < 0 ? [] : unused.splice(index, 1);
  if (line === undefined) throw new Error(`no page has a command line that begins with: ${beginning}`);
  return line;
};

/** Somebody at a shell, in a folder of their own. */
interface Person {
  readonly folder: string;
  readonly env: Record<string, string>;
  /** What they replace in what they read. */
  readonly words: Record<string, string>;
}

const place = mkdtempSync(join(tmpdir(), 'stekker-readme-'));
const stop = new AbortController();
const owned: AsyncDisposable[] = [];
const own = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
  owned.push(resource);
  return resource;
};
const background: ChildProcess[] = [];

let folder: Folder;
let stack: Stack;
let source: Server;
let person: (name: string, env?: Record<string, string>) => Person;
const hosts: Record<string, string> = {};

/** `npx stekker`, without the second that npm takes each time; another test runs the real one. */
const makeShim = (): string => {
  const bin = join(place, 'bin');
  mkdirSync(bin);
  const path = join(bin, 'npx');
  writeFileSync(
    path,
    `#!/bin/sh\n[ "$1" = stekker ] || exit 9\nshift\nexec "${process.execPath}" "${repository}/bin/stekker.ts" "$@"\n`,
  );
  chmodSync(path, 0o755);
  return bin;
};

const replaced = ({ text }: Line, { words }: Person): string =>
  Object.entries({ ...hosts, ...words }).reduce((line, [from, to]) => line.replaceAll(from, to), text);

const shell = async (line: Line, who: Person): Promise<{ readonly out: string; readonly err: string }> => {
  const options = { cwd: who.folder, env: who.env, maxBuffer: 1 << 24 };
  const done = run('bash', ['--norc', '-euo', 'pipefail', '-c', replaced(line, who)], options);
  const { stdout, stderr } = await done.catch((error: unknown) => {
    throw new Error(`${line.page}: ${replaced(line, who)} failed`, { cause: error });
  });
  return { out: stdout, err: stderr };
};

/** An `export` line changes what its shell hands to later commands. */
const exported = async (line: Line, who: Person): Promise<void> => {
  const { stdout } = await run('bash', ['--norc', '-euc', `${replaced(line, who)}\nenv -0`], {
    cwd: who.folder,
    env: who.env,
  });
  for (const entry of stdout.split('\0')) {
    const [, name, value] = /^(STEKKER_\w+)=(.*)$/s.exec(entry) ?? [];
    if (name !== undefined) who.env[name] = value ?? '';
  }
};

/** A line that ends in `&` goes on behind; it has begun when it says so. */
const inBackground = async (line: Line, who: Person): Promise<void> => {
  expect(line.text).toMatch(/ &$/);
  const child = spawn('bash', ['--norc', '-c', `exec ${replaced(line, who).slice(0, -2)}`], {
    cwd: who.folder,
    env: who.env,
  });
  background.push(child);
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => {
    said += bytes.toString();
  });
  await new Promise<void>((done, fail) => {
    child.once('exit', () => fail(new Error(`${line.text} ended: ${said}`)));
    child.stdout.on('data', (bytes: Buffer) => {
      said += bytes.toString();
      if (said.includes('"ready"')) done();
    });
  });
};

const json = async <Value>(who: Operator, args: readonly string[], schema: z.ZodType<Value>): Promise<Value> =>
  createTerminal({ report: createReport(undefined), signal: stop.signal, cache: join(place, 'cache') }).run(
    who,
    args,
    schema,
  );

beforeAll(async () => {
  folder = prepareFolder(join(place, 'space'));
  const report = createReport(undefined);
  const terminal = createTerminal({ report, signal: stop.signal, cache: join(place, 'cache') });
  stack = await startStack({ folder, terminal, signal: stop.signal, own });
  await joinEverybody({ folder, terminal, signal: stop.signal, report, stack });
  source = createServer((request, response) =>
    response.writeHead(request.headers['x-api-key'] === 'the key of the source' ? 200 : 401).end('{"features":[]}'),
  );
  await new Promise<void>((done) => source.listen(0, '127.0.0.1', done));
  const address = source.address();
  const [publicPort, dataPort, managementPort, gatewayPort] = await freePorts(4);
  Object.assign(hosts, {
    'https://source.example': `http://localhost:${typeof address === 'object' ? address?.port : ''}`,
    'https://my-node.example': stack.chain?.url ?? '',
    'https://broker.example': stack.broker.url,
    'did:web:broker.example': stack.broker.did,
    'https://data.connector.example': `http://localhost:${dataPort}`,
    'https://connector.example': `http://localhost:${publicPort}`,
    'did:web:connector.example': `did:web:localhost%3A${publicPort}`,
    'http://127.0.0.1:8083': stack.runtime.gatewayUrl,
  });
  const path = `${makeShim()}${delimiter}${process.env.PATH ?? ''}`;
  person = (name, env = {}) => {
    mkdirSync(join(place, name));
    return { folder: join(place, name), env: { PATH: path, HOME: place, ...env }, words: {} };
  };
  Object.assign(ownerSettings, {
    STEKKER_MODE: 'development',
    STEKKER_ALLOW_LOOPBACK_HTTP: 'true',
    STEKKER_PUBLIC_HOST: '127.0.0.1',
    STEKKER_PUBLIC_PORT: String(publicPort),
    STEKKER_DATA_PORT: String(dataPort),
    STEKKER_MANAGEMENT_PORT: String(managementPort),
    STEKKER_GATEWAY_PORT: String(gatewayPort),
  });
});

/** What makes a connector of the README one of this machine. */
const ownerSettings: Record<string, string> = {};

afterAll(async () => {
  stop.abort();
  for (const child of background) {
    const ended = new Promise((done) => child.once('exit', done));
    if (child.exitCode === null && child.kill('SIGTERM')) await ended;
  }
  await Promise.all(owned.map((one) => one[Symbol.asyncDispose]()));
  source.close();
  rmSync(place, { recursive: true, force: true });
});

const requestAgreement = z.looseObject({
  lines: z.array(z.looseObject({ agreementId: z.string(), dataset: z.string() })),
});

describe('command lines of the README and the guides', () => {
  test('the two commands of the README are the ones that the checks run', () => {
    const ci = readFileSync(join(repository, '.ci/run'), 'utf8');
    expect(take('npm ci && npm run demo').text).toBe('npm ci && npm run demo');
    expect(ci).toMatch(/npm ci .*&& npm test/);
    expect(take('npm ci && npm test').text).toBe('npm ci && npm test');
    expect(ci).toMatch(/npm run --silent demo -- --json/);
  });

  test('npx runs the command in a clone, with whatever Node is there', async () => {
    const { stdout } = await run('npx', ['--offline', 'stekker', '--help'], { cwd: repository });
    expect(stdout).toContain('stekker COMMAND');
  });

  test('the data owner starts, joins, publishes, sees and proves', async () => {
    const owner = person('owner', ownerSettings);
    await exported(take('export STEKKER_PUBLIC_URL'), owner);
    await exported(take('export STEKKER_DATA='), owner);
    await shell(take('for name in passphrase'), owner);
    await inBackground(take('npx stekker connector'), owner);
    const invited = z.looseObject({ joinCode: z.string() });
    const did = hosts['did:web:connector.example'] ?? '';
    const { joinCode } = await json(stack.broker.operator, ['invite', did, '--name', 'Bron'], invited);
    owner.words.CODE = joinCode;
    expect((await shell(take('npx stekker join CODE'), owner)).out).toContain('a member');

    writeFileSync(join(owner.folder, 'levels.geojson'), '{"type":"FeatureCollection","features":[]}');
    mkdirSync(join(owner.folder, 'reports'));
    writeFileSync(join(owner.folder, 'key.txt'), 'the key of the source\n');
    expect((await shell(take('npx stekker publish --templates'), owner)).out).toContain('accredited');
    expect((await shell(take('npx stekker publish levels.geojson'), owner)).out).toContain('0.01 EUR per request');
    expect((await shell(take('npx stekker publish https://source.example'), owner)).out).toContain('published');
    const { out } = await shell(take('npx stekker publish ./reports'), owner);
    owner.words.OFFER = /offer +(\S+)/.exec(out)?.[1] ?? '';
    expect((await shell(take('npx stekker withdraw OFFER'), owner)).out).toContain('withdrew');
  });

  test('the application runtime finds, fetches and asks its gateway', async () => {
    const runtime = person('runtime', stack.runtime.operator.env);
    await shell(take('npx stekker application add'), runtime);
    expect((await shell(take('npx stekker application list'), runtime)).out).toContain('urn:example:app:flood@1.0.0');
    await json(
      stack.runtime.operator,
      ['application', 'add', 'urn:example:app:old@0.9.0', '--key-file', join(place, 'old.key')],
      z.looseObject({}),
    );
    expect((await shell(take('npx stekker application remove'), runtime)).out).toContain('removed');
    const token = readFileSync(stack.broker.tokenFile, 'utf8').trim();
    await fetch(`${stack.broker.managementUrl}/v1/store/harvest`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: '{}',
    });
    const offers = take('npx stekker offers levels');
    let found = '';
    for (let tries = 0; tries < 50 && !found.includes('levels.geojson'); tries += 1)
      found = (await shell(offers, runtime)).out;
    expect(found).toContain('yes: 0.01 EUR per request ');
    expect((await shell(take('npx stekker offers --provider'), runtime)).out).toContain('urn:example:api');
    await shell(take('npx stekker fetch urn:example:levels --purpose'), runtime);
    await shell(take('npx stekker fetch urn:example:levels --provider'), runtime);
    expect(readFileSync(join(runtime.folder, 'levels.geojson'), 'utf8')).toContain('FeatureCollection');
    const { lines } = await json(stack.runtime.operator, ['usage'], requestAgreement);
    runtime.words.AGREEMENT = encodeURIComponent(
      lines.find(({ dataset }) => dataset === 'urn:example:levels')?.agreementId ?? '',
    );
    expect((await shell(take('curl'), runtime)).out).toContain('FeatureCollection');
    agreement.id = decodeURIComponent(runtime.words.AGREEMENT);
  });

  test('the data owner ends the agreement, and both have the receipts', async () => {
    const token = join(place, 'owner', 'token');
    const port = ownerSettings.STEKKER_MANAGEMENT_PORT ?? '';
    const owner = person('owner-later', { STEKKER_MANAGEMENT_TOKEN_FILE: token, STEKKER_MANAGEMENT_PORT: port });
    owner.words.AGREEMENT = agreement.id;
    expect((await shell(take('npx stekker usage', 'README.md'), owner)).out).toContain('to receive: 0.03 EUR');
    await shell(take('npx stekker usage --csv'), owner);
    expect(readFileSync(join(owner.folder, 'usage.csv'), 'utf8')).toContain('urn:example:levels');
    expect((await shell(take('npx stekker end AGREEMENT'), owner)).out).toContain('ended');
    expect((await shell(take('npx stekker receipt --agreement', 'docs/guides/data-owner.md'), owner)).out).toContain(
      'wrote',
    );
    const runtime = person('runtime-later', stack.runtime.operator.env);
    runtime.words.AGREEMENT = agreement.id;
    await shell(take('npx stekker receipt --agreement', 'README.md'), runtime);
  });

  test('the auditor makes a trust file, and verifies with two programs', async () => {
    const auditor = person('auditor');
    symlinkSync(join(place, 'runtime-later', 'receipts'), join(auditor.folder, 'receipts'));
    symlinkSync(join(repository, 'dist'), join(auditor.folder, 'dist'));
    await shell(
      take('npx stekker trust --broker https://broker.example --out trust.json', 'docs/guides/auditor.md'),
      auditor,
    );
    await shell(
      take('npx stekker trust --broker https://broker.example --out trust.json --pin', 'docs/guides/auditor.md'),
      auditor,
    );
    await shell(take('npx stekker trust --broker', 'README.md'), auditor);
    expect((await shell(take('npx stekker verify', 'README.md'), auditor)).out).toContain('VALID');
    expect((await shell(take('npx stekker verify', 'docs/guides/auditor.md'), auditor)).out).toContain('GELDIG');
    const { out } = await shell(take('npx stekker verify', 'docs/guides/auditor.md'), auditor);
    expect(JSON.parse(out)).toMatchObject({ code: 0 });
    await shell(take('npm run build:verifier'), { ...auditor, folder: repository });
    expect((await shell(take('node dist/stekker-verify.mjs'), auditor)).out).toContain('VALID');
  });

  test('no command line of these pages was left out', () => {
    expect(unused).toEqual([]);
    expect(count).toBeGreaterThan(30);
  });
});

const agreement = { id: '' };
