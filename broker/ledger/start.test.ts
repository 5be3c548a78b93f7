import { describe, expect, test } from 'vitest';
import { fromBase64Url, toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { checkpointText, readNote, readVerifierKey, signatureLine } from '../../contracts/ledger/note.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { createLogger, type Logger } from '../../kernel/log.ts';
import { signEd25519 } from '../../test/support/keys.ts';
import { keys, origin } from '../../test/support/ledger-world.ts';
import { joinAll, type LogBench, logBench, logKeys, published } from '../../test/support/log-bench.ts';
import { agreementBody, provider } from '../../test/support/log-parties.ts';
import { tornFiles } from '../../test/support/torn-files.ts';
import { fileLogFiles } from '../adapters/files/log-files.ts';
import { memoryLogStore } from '../adapters/memory/log-store.ts';
import type { ArtifactStore, JoinCodeStore, LogStore } from './ports.ts';

type Stores = LogStore & ArtifactStore & JoinCodeStore;

/** A log with some entries, published and closed. */
const grown = async (entries = 5): Promise<LogBench> => {
  const bench = logBench();
  const ledger = await bench.start();
  await joinAll(ledger);
  for (let place = 3; place < entries; place += 1)
    await ledger.register(agreementBody({ name: `n${place}` }).body, provider.did);
  await published(bench, entries);
  await ledger.close();
  return bench;
};

/** Rows as they were at an earlier size: what a restored backup holds. */
const backupOf = async (bench: LogBench, size: number): Promise<Stores> => {
  const older = logBench({ files: tornFiles() });
  const ledger = await older.start();
  await joinAll(ledger);
  for (let place = 3; place < size; place += 1)
    await ledger.register(agreementBody({ name: `n${place}` }).body, provider.did);
  await ledger.close();
  const same = await older.store.entries(origin, 0, 3);
  expect(same).toHaveLength(3);
  expect((await bench.store.entries(origin, 0, 3)).length).toBe(3);
  return older.store;
};

/** The same rows, cut off: the head and stack of the beginning. */
const cutTo = async (store: Stores, size: number): Promise<Stores> => {
  const cut = memoryLogStore();
  const { headOf } = await import('./batch.ts');
  const { appendLeaf } = await import('../../contracts/ledger/tree.ts');
  let stack: Parameters<typeof headOf>[2] = [];
  const publics = await store.publicRows(origin, 0);
  for (const row of await store.entries(origin, 0, size)) {
    stack = appendLeaf(nodeCrypto, stack, fromBase64Url(row.leaf) ?? new Uint8Array(0));
    const artifact = await store.byIndex(origin, row.index);
    const isPublic = publics.find(({ index }) => index === row.index);
    await cut.commit(origin, {
      from: row.index,
      fence: null,
      head: headOf(nodeCrypto, row.index + 1, stack),
      entries: [
        {
          entry: row,
          artifact: artifact ?? { digest: '', index: row.index, agreementDigest: null, text: '' },
          subject: isPublic
            ? { kind: 'public', row: isPublic, joinCode: null }
            : {
                kind: 'agreement-event',
                row: {
                  agreementDigest: String(row.index),
                  index: row.index,
                  event: 'end',
                  signers: ['did:web:x.example'],
                },
              },
        },
      ],
    });
  }
  return cut;
};

const withRows = (store: Stores) => ({ store, artifacts: store, joinCodes: store });
const codeOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
    return 'started';
  } catch (error) {
    return (error as { code: string }).code;
  }
};

const collect = (): { log: Logger; text: () => string } => {
  const lines: string[] = [];
  const log = createLogger({ name: 'log', level: 'warn', destination: { write: (line) => void lines.push(line) } });
  return { log, text: () => lines.join('') };
};

const writeFile = async ({ files }: LogBench, path: string, bytes: Uint8Array): Promise<void> => {
  await files.remove(path);
  const file = await files.open(path);
  await file.append(bytes);
  await file.sync();
};

const signedNote = (size: number, root: Uint8Array): string => {
  const key = readVerifierKey(nodeCrypto, logKeys.vkey);
  if (!key.ok) throw new Error(key.reason);
  const text = checkpointText({ origin, size, root });
  return `${text}\n${signatureLine(origin, key.value.keyId, signEd25519(keys.log, utf8(text)))}`;
};

describe('start-up checks', () => {
  test('rows that go on from what was signed start, and go on', async () => {
    const bench = await grown();
    const ledger = await bench.start();
    await ledger.register(agreementBody({ name: 'more' }).body, provider.did);
    await published(bench, 6);
    await ledger.close();
    expect(await codeOf(bench.start().then((again) => again.close()))).toBe('started');
  });

  test('a restored backup of the rows refuses to start, and signs nothing', async () => {
    const bench = await grown(8);
    let signatures = 0;
    const counting = {
      ...logKeys,
      signAsLog: (message: Uint8Array) => {
        signatures += 1;
        return logKeys.signAsLog(message);
      },
    };
    const restored = await cutTo(bench.store, 5);
    expect(await codeOf(bench.start({ ...withRows(restored), keys: counting }))).toBe('backup-restored');
    const empty = memoryLogStore();
    expect(await codeOf(bench.start({ ...withRows(empty), keys: counting }))).toBe('backup-restored');
    expect(signatures).toBe(0);
  });

  test('a restored backup that has grown again, differently, refuses to start', async () => {
    const bench = await grown(6);
    const other = await backupOf(bench, 9);
    expect(await codeOf(bench.start(withRows(other)))).toBe('backup-restored');
  });

  test('nothing is written before the checks are through', async () => {
    const bench = await grown(6);
    const other = await backupOf(bench, 9);
    const tile = await bench.files.read('/log/tile/0/000.p/6');
    await codeOf(bench.start(withRows(other)));
    expect(await bench.files.read('/log/tile/0/000.p/6')).toEqual(tile);
    expect(await bench.files.read('/log/tile/0/000.p/9')).toBeUndefined();
  });

  test('a lost or older record of what was signed refuses to start', async () => {
    const bench = await grown(6);
    for (const name of await bench.files.list('/intent')) await bench.files.remove(`/intent/${name}`);
    expect(await codeOf(bench.start())).toBe('backup-restored');
  });

  test('a published checkpoint ahead of the rows, or beside them, under our own signature refuses to start', async () => {
    const bench = await grown(6);
    await writeFile(bench, '/log/checkpoint', utf8(signedNote(7, nodeCrypto.sha256(utf8('x')))));
    expect(await codeOf(bench.start())).toBe('backup-restored');
    await writeFile(bench, '/log/checkpoint', utf8(signedNote(5, nodeCrypto.sha256(utf8('x')))));
    expect(await codeOf(bench.start())).toBe('backup-restored');
    await writeFile(bench, '/log/checkpoint', utf8(signedNote(6, nodeCrypto.sha256(utf8('x')))));
    expect(await codeOf(bench.start())).toBe('backup-restored');
  });

  test('a published checkpoint that is not ours raises an alarm and is written again', async () => {
    const bench = await grown(6);
    const { log, text } = collect();
    await writeFile(bench, '/log/checkpoint', utf8('something else\n'));
    const ledger = await bench.start({ log });
    expect(text()).toContain('not ours');
    await ledger.close();
    const note = readNote(Buffer.from((await bench.files.read('/log/checkpoint')) ?? []).toString());
    expect(note).toMatchObject({ ok: true, value: { checkpoint: { size: 6 } } });
  });

  test('an anchor ahead of what was signed, or with another root, refuses to start; an older true one does not', async () => {
    const bench = await grown(6);
    const anchored = (size: number, root: Uint8Array) => ({
      chain: { head: async () => ({ state: 'anchored' as const, size, root }) },
    });
    expect(await codeOf(bench.start(anchored(9, nodeCrypto.sha256(utf8('x')))))).toBe('backup-restored');
    expect(await codeOf(bench.start(anchored(3, nodeCrypto.sha256(utf8('x')))))).toBe('backup-restored');
    const cut = await cutTo(bench.store, 3);
    const root = fromBase64Url((await cut.head(origin))?.root ?? '') ?? new Uint8Array(0);
    expect(await codeOf(bench.start(anchored(3, root)).then((ledger) => ledger.close()))).toBe('started');
  });

  test('a chain that cannot be asked raises an alarm and stops nothing', async () => {
    const bench = await grown(4);
    const { log, text } = collect();
    const chain = { head: async () => ({ state: 'unreachable' as const }) };
    expect(await codeOf(bench.start({ log, chain }).then((ledger) => ledger.close()))).toBe('started');
    expect(text()).toContain('the chain cannot be asked');
  });

  test('tiles that were changed or removed are found and written again from the rows', async () => {
    for (const damage of ['changed', 'removed'] as const) {
      const bench = await grown(6);
      const path = '/log/tile/0/000.p/6';
      const before = await bench.files.read(path);
      if (damage === 'removed') await bench.files.remove(path);
      else
        await writeFile(
          bench,
          path,
          (before ?? utf8('')).map((byte, place) => (place === 40 ? byte ^ 1 : byte)),
        );
      const { log, text } = collect();
      const ledger = await bench.start({ log });
      expect(text()).toContain('written again from the rows');
      expect(await bench.files.read(path)).toEqual(before);
      expect((await ledger.proof(2)).index).toBe('2');
      await ledger.close();
    }
  });

  test('an inner tile that was changed is found when an older anchor is compared, and written again', async () => {
    const bench = logBench();
    const ledger = await bench.start();
    await joinAll(ledger);
    const names = Array.from({ length: 300 }, (_, place) => `n${place}`);
    await Promise.all(names.map((name) => ledger.register(agreementBody({ name }).body, provider.did)));
    await published(bench, 303);
    await ledger.close();
    const path = '/log/tile/0/000';
    const before = await bench.files.read(path);
    await writeFile(
      bench,
      path,
      (before ?? utf8('')).map((byte, place) => (place === 40 ? byte ^ 1 : byte)),
    );
    const root = fromBase64Url((await (await cutTo(bench.store, 100)).head(origin))?.root ?? '') ?? utf8('');
    const { log, text } = collect();
    const chain = { head: async () => ({ state: 'anchored' as const, size: 100, root }) };
    const again = await bench.start({ log, chain });
    expect(text()).toContain('written again from the rows');
    expect(await bench.files.read(path)).toEqual(before);
    await again.close();
  });

  test('rows that contradict themselves are damage, not a new beginning', async () => {
    const bench = await grown(6);
    const head = await bench.store.head(origin);
    const lying = {
      ...bench.store,
      head: async () => head && { ...head, root: toBase64Url(nodeCrypto.sha256(utf8('x'))) },
    };
    expect(await codeOf(bench.start(withRows(lying)))).toBe('data-damaged');
    const gap = { ...bench.store, entries: async () => [] };
    expect(await codeOf(bench.start(withRows(gap)).then((ledger) => ledger.close()))).not.toBe('internal-error');
    const short = head && { size: 5, root: head.root, stack: head.stack };
    expect(await codeOf(bench.start(withRows({ ...bench.store, head: async () => short })))).toBe('data-damaged');
  });

  test('other keys than those of the genesis refuse to start', async () => {
    const bench = await grown(4);
    const { p256FromByte } = await import('../../test/support/keys.ts');
    const other = { ...logKeys, registryKey: p256FromByte(60).spki };
    expect(await codeOf(bench.start({ keys: other }))).toBe('data-damaged');
  });
});

describe('two sequencers at once', () => {
  test('one goes on, the other stops before it signs anything', async () => {
    const bench = await grown(4);
    const first = await bench.start();
    const second = await bench.start();
    const send = (ledger: typeof first, name: string) =>
      ledger.register(agreementBody({ name }).body, provider.did).then(
        ({ index }) => index,
        (error: { code: string }) => error.code,
      );
    expect(await send(first, 'a')).toBe(4);
    await published(bench, 5);
    expect(await send(second, 'b')).toBe('log-stopped');
    expect(await send(second, 'c')).toBe('log-stopped');
    expect(await send(first, 'd')).toBe(5);
    await published(bench, 6);
    await first.close();
    await second.close();
    const roots = new Map<string, Set<string>>();
    for (const note of bench.notes) {
      const [, size = '', root = ''] = note.split('\n');
      roots.set(size, (roots.get(size) ?? new Set()).add(root));
    }
    expect([...roots.values()].every((seen) => seen.size === 1)).toBe(true);
  });

  test('a sequencer with rows of its own loses the record of what is signed to the other', async () => {
    const bench = await grown(4);
    const twin = await cutTo(bench.store, 4);
    const first = await bench.start();
    const second = await bench.start({ ...withRows(twin), files: fileLogFiles(bench.files, '/twin', 'a') });
    await Promise.allSettled([
      first.register(agreementBody({ name: 'a' }).body, provider.did),
      second.register(agreementBody({ name: 'b' }).body, provider.did),
    ]);
    await first.close();
    await second.close();
    const bySize = Map.groupBy(bench.notes, (note) => note.split('\n')[1]);
    for (const notes of bySize.values()) expect(new Set(notes.map((note) => note.split('\n')[2])).size).toBe(1);
    expect(bySize.has('5')).toBe(true);
  });
});
