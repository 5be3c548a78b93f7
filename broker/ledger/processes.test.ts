import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { until } from '../../test/support/broker-bench.ts';
import { keyEventBody, provider } from '../../test/support/log-parties.ts';
import { type LogProcess, logWorld } from '../../test/support/log-processes.ts';
import { fileSignedStore } from '../adapters/files/signed-store.ts';

/** What happens when the turn to write a log passes from one process to the next. */

const leaseMs = 600;

const join = async (name: string, { ledger }: LogProcess): Promise<number> => {
  const did = `did:web:${name}.example`;
  const joinCode = await ledger.issueJoinCode(did, 60_000);
  const { body } = keyEventBody({ of: { ...provider, did, kid: `${did}#s` }, joinCode });
  return (await ledger.register(body, did)).index;
};

const writes = ({ ledger }: LogProcess) => until(() => (ledger.isWriter ? true : undefined));

describe('the turn to write a log', () => {
  test('a new writer decides the same head under its own fence before anything else', async () => {
    await using world = await logWorld({ leaseMs });
    const intent = fileSignedStore({ files: world.files, crypto: nodeCrypto, token: 'reader' }, '/intent');
    const a = await world.start('a');
    await join('one', a);
    await a.ledger.close();
    const before = await intent.read();
    const b = await world.start('b');
    const after = await intent.read();
    expect(after).toEqual({ ...before, fence: (before?.fence ?? 0) + 1 });
    await b.ledger.close();
  });

  test('what only the writer does begins and ends with its turn', async () => {
    await using world = await logWorld({ leaseMs });
    const [a, b] = [await world.start('a'), await world.start('b')];
    const done: string[] = [];
    const duty = (name: string) => async () => {
      done.push(`${name} begins`);
      return { [Symbol.asyncDispose]: async () => void done.push(`${name} ends`) };
    };
    await a.ledger.whileWriting(duty('a'));
    const ofB = await b.ledger.whileWriting(duty('b'));
    expect(done).toEqual(['a begins']);
    await a.ledger.close();
    await until(() => (done.length === 3 ? true : undefined));
    expect(done).toEqual(['a begins', 'a ends', 'b begins']);
    await ofB[Symbol.asyncDispose]();
    await b.ledger.close();
    expect(done.at(-1)).toBe('b ends');
    expect(done).toHaveLength(4);
  });

  test('work that does not begin is begun again, and keeps no writer from ending its turn', async () => {
    await using world = await logWorld({ leaseMs });
    const a = await world.start('a');
    let attempts = 0;
    await a.ledger.whileWriting(async () => {
      attempts += 1;
      if (attempts < 3) throw new Error('not yet');
      return { [Symbol.asyncDispose]: async () => undefined };
    });
    await until(() => (attempts === 3 ? true : undefined));
    const b = await world.start('b');
    await b.ledger.whileWriting(async () => {
      throw new Error('never');
    });
    await a.ledger.close();
    await writes(b);
    expect(await join('one', b)).toBe(1);
    await b.ledger.close();
    expect(attempts).toBe(3);
  });

  test('a writer that stood still beyond its lease writes nothing, and whoever waited there is answered by the next', async () => {
    await using world = await logWorld({ leaseMs });
    const [a, b] = [await world.start('a'), await world.start('b')];
    await join('one', a);
    a.gate.pauseAt(1);
    const waiting = join('two', { ...a, ledger: a.ledger }).catch((error: unknown) => error);
    await writes(b);
    const index = await join('three', b);
    a.gate.go();
    expect([await waiting, index].toSorted()).toEqual([2, 3]);
    expect(a.ledger.isWriter).toBe(false);
    for (const { ledger } of [a, b]) {
      await ledger.newestCheckpoint();
      expect(ledger.size).toBeGreaterThanOrEqual(3);
      expect(await ledger.hasJoined('did:web:two.example')).toBe(true);
      await ledger.close();
    }
  });

  test('a process whose rows are behind what was signed does not write, says so, and serves what there is', async () => {
    await using world = await logWorld({ leaseMs });
    const [a, b] = [await world.start('a'), await world.start('b')];
    await join('one', a);
    await until(async () => ((await a.ledger.newestCheckpoint())?.split('\n')[1] === '2' ? true : undefined));
    const intent = fileSignedStore({ files: world.files, crypto: nodeCrypto, token: 'future' }, '/intent');
    const signed = await intent.read();
    expect(await intent.swap(signed, { size: 99, root: signed?.root ?? '', fence: 1 })).toBe(true);
    await a.ledger.close();
    await until(() => (b.ledger.isWorking ? undefined : true));
    expect(b.ledger.isWriter).toBe(false);
    expect((await b.ledger.proof(1)).index).toBe('1');
    await expect(world.start('c')).rejects.toMatchObject({ code: 'backup-restored' });
    await b.ledger.close();
  });
});
