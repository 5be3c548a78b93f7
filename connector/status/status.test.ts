import { Hono } from 'hono';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BrokerMessage, brokerMessageText, type Snapshot } from '../../contracts/events.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import { formatTime } from '../../contracts/time.ts';
import { signedBy } from '../../kernel/assertions.ts';
import { manualClock, systemClock } from '../../kernel/clock.ts';
import type { DidResolver } from '../../kernel/did.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { follow, openStatusStore } from '../../test/support/hub-events.ts';
import { type HubParty, noticeOf, startHubParty } from '../../test/support/hub-parties.ts';
import type { StandingChanged, StatusStore } from './ports.ts';
import { type Status, type StatusOptions, statusWithoutBroker } from './service.ts';

/** A broker that says whatever the test wants, over a real server. */
let broker: HubParty;
let accreditor: HubParty;
let connector: HubParty;
let stranger: HubParty;

beforeAll(async () => {
  [broker, accreditor, connector, stranger] = await Promise.all([
    startHubParty(),
    startHubParty(),
    startHubParty(),
    startHubParty(),
  ]);
});
afterAll(async () => {
  for (const party of [connector, broker, accreditor, stranger]) await party[Symbol.asyncDispose]();
});

type Body = ReadableStreamDefaultController<Uint8Array>;

const frame = (message: BrokerMessage, by: HubParty = broker): string => {
  const jws = signedBy(by.keys, brokerMessageText(message), 'stekker-event+jws');
  return `id: ${message.n}\ndata: ${JSON.stringify(jws)}\n\n`;
};

/** Takes over the broker's `/events`; each connection is seen with what it asked for. */
const takeOver = (clock: { readonly now: () => number }) => {
  const asked: (string | undefined)[] = [];
  let current: Body | undefined;
  const app = new Hono();
  app.get('/events', (context) => {
    asked.push(context.req.header('last-event-id'));
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        current = controller;
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  });
  broker.serve(app);
  let at = clock.now();
  const next = () => {
    at = Math.max(at + 1, clock.now());
    return formatTime(at);
  };
  const write = (text: string) => current?.enqueue(new TextEncoder().encode(text));
  return {
    asked,
    write,
    next,
    connected: (count: number) =>
      eventually(
        async () => asked.length,
        (length) => length >= count,
      ),
    heartbeat: (n: number, time = next()) => write(frame({ v: 1, type: 'heartbeat', n, at: time })),
    snapshot: (n: number, events: Snapshot['events'] = []) =>
      write(frame({ v: 1, type: 'snapshot', n, at: next(), events })),
    event: (n: number, evidence: GeneralJws | null, subject: string, changes: object = {}) => {
      const time = formatTime(clock.now());
      write(
        frame({
          v: 1,
          type: 'revoked',
          n,
          at: time,
          subject,
          effectiveAt: time,
          evidence,
          ...changes,
        } as BrokerMessage),
      );
    },
    cut: () => current?.close(),
  };
};

const start = async (changes: Partial<StatusOptions> = {}) => {
  const clock = manualClock(systemClock.now());
  const line = takeOver(clock);
  const status = await follow(connector, broker, { clock, accreditors: [accreditor.did], ...changes });
  await line.connected(1);
  /** Time passes in small steps, as timers see it. */
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 250) {
      clock.advance(Math.min(250, left));
      await systemClock.sleep(0);
    }
  };
  return { clock, line, status, pass };
};
type World = Awaited<ReturnType<typeof start>>;

const heard = async ({ line, status }: Pick<World, 'line' | 'status'>, n = 0) => {
  line.snapshot(n);
  line.heartbeat(n);
  await eventually(
    async () => status.view(),
    (view) => view.n === n && !view.isSilent,
  );
};

/** Waits until the follower has taken everything written so far: it takes messages in order. */
const settled = async ({ line, status, clock }: World, n: number, time = formatTime(clock.now())) => {
  const subject = `did:web:marker-${n}.example`;
  line.event(n, null, subject, { type: 'keys', at: time });
  await eventually(
    async () => status.view().n,
    (now) => now === n,
  );
};

/** Lets time pass until the follower has connected so many times. */
const reconnected = ({ line, pass }: Pick<World, 'line' | 'pass'>, count: number) =>
  eventually(
    async () => {
      await pass(50);
      return line.asked.length;
    },
    (length) => length >= count,
  );

const stateOf = (status: Status, subject = 'x', silence: 'strict' | number = 'strict') =>
  status.check([subject], silence);

const at = (clock: { readonly now: () => number }) => ({
  at: formatTime(clock.now()),
  effectiveAt: formatTime(clock.now()),
});

describe('status before the first word', () => {
  test('a connector that never had a snapshot lets nothing through, in either mode', async () => {
    const world = await start();
    await using status = world.status;
    expect(stateOf(status)).toEqual({ state: 'unknown' });
    expect(stateOf(status, 'x', 300_000)).toEqual({ state: 'unknown' });
    world.line.heartbeat(0);
    await reconnected(world, 2);
    expect(stateOf(status)).toEqual({ state: 'unknown' });
    await heard(world);
    expect(stateOf(status)).toEqual({ state: 'good', statusAge: null });
  });

  test('one that starts again is silent since it last heard the broker', async () => {
    const store = await openStatusStore();
    const clock = manualClock(systemClock.now());
    await store.save(
      { participant: 'us' as never, broker: broker.did },
      { followed: { n: 0, wordAt: 0, heardAt: clock.now() - 100_000 }, put: [], remove: [] },
    );
    const world = await start({ store, clock });
    await using status = world.status;
    expect(world.line.asked).toEqual(['0']);
    expect(stateOf(status)).toEqual({ state: 'unknown' });
    expect(stateOf(status, 'x', 300_000)).toEqual({ state: 'good', statusAge: 100 });
    expect(stateOf(status, 'x', 90_000)).toEqual({ state: 'unknown' });
  });

  test('without a broker nobody is revoked and nobody is missed', () => {
    const status = statusWithoutBroker;
    expect(stateOf(status)).toEqual({ state: 'good', statusAge: null });
    expect(status.isSuspended('x')).toBe(false);
    expect(status.view()).toEqual({ isSilent: false, silentSeconds: null, n: null, held: 0 });
  });
});

describe('silence', () => {
  test('strict stops after 3 s; grace goes on, marked, and stops at its end', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    await world.pass(2_900);
    expect(stateOf(status)).toEqual({ state: 'good', statusAge: null });
    await world.pass(200);
    expect(stateOf(status)).toEqual({ state: 'unknown' });
    expect(stateOf(status, 'x', 2_000)).toEqual({ state: 'good', statusAge: 3 });
    await world.pass(2_000);
    expect(stateOf(status, 'x', 2_000)).toEqual({ state: 'unknown' });
    expect(stateOf(status, 'x', 300_000)).toEqual({ state: 'good', statusAge: 5 });
    expect(status.view()).toMatchObject({ isSilent: true, silentSeconds: 5 });
  });

  test('a clock that is set back does not make a grace longer', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    await world.pass(4_000);
    world.clock.advance(-3_600_000);
    expect(stateOf(status, 'x', 2_000)).toEqual({ state: 'good', statusAge: 4 });
    await world.pass(1_500);
    expect(stateOf(status, 'x', 2_000)).toEqual({ state: 'unknown' });
  });

  test('listeners are called back while it lasts, and once when it ends', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    let calls = 0;
    status.onChange(() => {
      calls += 1;
    });
    await world.pass(2_000);
    expect(calls).toBe(0);
    await world.pass(2_000);
    expect(calls).toBeGreaterThanOrEqual(3);
    world.line.heartbeat(0);
    await eventually(
      async () => status.view().isSilent,
      (is) => !is,
    );
    const during = calls;
    await world.pass(500);
    expect(calls).toBe(during + 1);
  });

  test('a line without a word is given up for another', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    await world.pass(5_000);
    await reconnected(world, 2);
    expect(world.line.asked).toEqual([undefined, '0']);
    await heard(world);
    expect(stateOf(status)).toEqual({ state: 'good', statusAge: null });
  });

  test('words that are held back on the way count as old as they are', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    const late = formatTime(world.clock.now() + 1);
    await world.pass(4_000);
    world.line.heartbeat(0, late);
    await settled(world, 1);
    expect(stateOf(status)).toEqual({ state: 'unknown' });
  });

  test('after a day nothing counts before a snapshot', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    world.clock.advance(24 * 3_600_000 + 5_000);
    expect(stateOf(status, 'x', Number.MAX_SAFE_INTEGER)).toEqual({ state: 'unknown' });
    await reconnected(world, 2);
    expect(world.line.asked[1]).toBeUndefined();
    await heard(world);
    expect(stateOf(status)).toEqual({ state: 'good', statusAge: null });
  });
});

describe('a broker that lies, and a line that loses', () => {
  test('a heartbeat signed by a stranger is not heard', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    await world.pass(4_000);
    const word = { v: 1, type: 'heartbeat', n: 0, at: formatTime(world.clock.now()) } as const;
    world.line.write(frame(word, stranger));
    const twice = signedBy(broker.keys, brokerMessageText(word), 'stekker-event+jws');
    const doubled = { ...twice, signatures: [...twice.signatures, ...twice.signatures] };
    world.line.write(`data: ${JSON.stringify(doubled)}\n\n`);
    world.line.write('data: {"a":\n\n: a comment\n\ndata: {"payload":"","signatures":[]}\n\n');
    await settled(world, 1);
    expect(stateOf(status)).toEqual({ state: 'unknown' });
  });

  test('a heartbeat that is said again is not heard', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    const said = formatTime(world.clock.now() + 2);
    world.line.heartbeat(0, said);
    await settled(world, 1);
    await world.pass(4_000);
    world.line.heartbeat(1, said);
    await settled(world, 2);
    expect(stateOf(status)).toEqual({ state: 'unknown' });
  });

  test('events that are missing are asked for again, and nothing is heard until they came', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world, 4);
    await world.pass(4_000);
    world.line.heartbeat(6);
    await reconnected(world, 2);
    expect(world.line.asked).toEqual([undefined, '4']);
    expect(stateOf(status)).toEqual({ state: 'unknown' });
    world.line.event(6, null, 'urn:uuid:late');
    await reconnected(world, 3);
    // Twice in a row it did not help: only a snapshot does.
    expect(world.line.asked[2]).toBeUndefined();
    expect(stateOf(status, 'urn:uuid:late').state).toBe('unknown');
    await heard(world, 6);
    expect(stateOf(status)).toEqual({ state: 'good', statusAge: null });
  });

  test('an event that is said again changes nothing', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    const said: StandingChanged[] = [];
    status.onStanding((change) => said.push(change));
    const evidence = noticeOf(accreditor, { type: 'revoked', subject: 'urn:uuid:1', ...at(world.clock) });
    world.line.event(1, evidence, 'urn:uuid:1');
    world.line.event(1, evidence, 'urn:uuid:1');
    world.line.event(2, evidence, 'urn:uuid:1');
    await settled(world, 3);
    expect(said.filter(({ type }) => type === 'revoked')).toEqual([{ type: 'revoked', subject: 'urn:uuid:1' }]);
  });

  test.each([
    ['signed by the broker in the accreditor’s place', () => ({ by: { keys: broker.keys, did: accreditor.did } })],
    ['of another issuer', () => ({ by: stranger })],
    ['about another subject', () => ({ about: 'urn:uuid:other' })],
    ['of another kind', () => ({ type: 'suspended' as const })],
  ])('evidence %s revokes nothing', async (_name, make) => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    const {
      by = accreditor,
      about = 'urn:uuid:1',
      type = 'revoked',
    } = make() as {
      by?: HubParty;
      about?: string;
      type?: 'revoked' | 'suspended';
    };
    world.line.event(1, noticeOf(by, { type, subject: about, ...at(world.clock) }), 'urn:uuid:1');
    await settled(world, 2);
    world.line.heartbeat(2);
    expect(stateOf(status, 'urn:uuid:1').state).toBe('good');
    expect(status.isSuspended('urn:uuid:1')).toBe(false);
  });

  test('nobody revokes what somebody else issued, whoever passes it on', async () => {
    const world = await start({ issuerOf: (subject) => (subject === 'urn:uuid:mine' ? accreditor.did : undefined) });
    await using status = world.status;
    await heard(world);
    const byBroker = noticeOf(broker, { type: 'revoked', subject: 'urn:uuid:mine', ...at(world.clock) });
    world.line.event(1, byBroker, 'urn:uuid:mine');
    world.line.event(2, null, 'urn:uuid:mine');
    const place = `${stranger.origin}/credentials/1`;
    world.line.event(3, noticeOf(accreditor, { type: 'revoked', subject: place, ...at(world.clock) }), place);
    await settled(world, 4);
    expect(stateOf(status, 'urn:uuid:mine').state).toBe('good');
    expect(stateOf(status, place).state).toBe('good');
    world.line.event(5, null, 'urn:uuid:membership');
    await settled(world, 6);
    expect(stateOf(status, 'urn:uuid:membership').state).toBe('revoked');
  });

  test('an old word that comes late, or a snapshot that leaves words out, undoes nothing', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    const { clock, line } = world;
    const say = (type: 'suspended' | 'reinstated' | 'revoked', subject: string, ms: number) =>
      noticeOf(accreditor, { type, subject, at: formatTime(ms), effectiveAt: formatTime(clock.now()) });
    const now = clock.now();
    line.event(1, say('suspended', 'urn:uuid:s', now), 'urn:uuid:s', { type: 'suspended' });
    line.event(2, say('reinstated', 'urn:uuid:s', now - 1_000), 'urn:uuid:s', { type: 'reinstated' });
    line.event(3, say('revoked', 'urn:uuid:r', now), 'urn:uuid:r');
    line.event(4, say('reinstated', 'urn:uuid:r', now + 1), 'urn:uuid:r', { type: 'reinstated' });
    line.snapshot(4);
    await settled(world, 5);
    expect(stateOf(status, 'urn:uuid:s').state).toBe('revoked');
    expect(stateOf(status, 'urn:uuid:r').state).toBe('revoked');
  });
});

describe('what is known', () => {
  test('survives a restart, with the number of the last event', async () => {
    const store = await openStatusStore();
    {
      const world = await start({ store });
      await using _status = world.status;
      await heard(world);
      const evidence = noticeOf(accreditor, { type: 'revoked', subject: 'urn:uuid:1', ...at(world.clock) });
      world.line.event(1, evidence, 'urn:uuid:1');
      await settled(world, 2);
    }
    const world = await start({ store });
    await using status = world.status;
    expect(world.line.asked).toEqual(['2']);
    expect(stateOf(status, 'urn:uuid:1', 300_000)).toEqual({ state: 'revoked' });
  });

  test('acts although the disk is full, and does not forget what it could not write', async () => {
    const real = await openStatusStore();
    let isFull = true;
    const store: StatusStore = {
      load: real.load,
      save: async (name, change) => {
        if (isFull) throw new Error('no space left');
        await real.save(name, change);
      },
    };
    const world = await start({ store });
    {
      await using status = world.status;
      await heard(world);
      const evidence = noticeOf(accreditor, { type: 'revoked', subject: 'urn:uuid:1', ...at(world.clock) });
      world.line.event(1, evidence, 'urn:uuid:1');
      await settled(world, 2);
      expect(stateOf(status, 'urn:uuid:1').state).toBe('revoked');
      isFull = false;
      await settled(world, 3);
    }
    const known = await real.load({ participant: 'us' as never, broker: broker.did });
    expect(known?.followed.n).toBe(3);
    expect(known?.notices.map(({ subject }) => subject)).toEqual(['urn:uuid:1']);
  });

  test('a suspension lets what runs go on until its date, and stops new things at once', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    const effectiveAt = formatTime(world.clock.now() + 2_000);
    const evidence = noticeOf(accreditor, {
      type: 'suspended',
      subject: 'urn:uuid:1',
      ...at(world.clock),
      effectiveAt,
    });
    let calls = 0;
    world.line.event(1, evidence, 'urn:uuid:1', { type: 'suspended', effectiveAt });
    await settled(world, 2);
    status.onChange(() => {
      calls += 1;
    });
    expect(status.isSuspended('urn:uuid:1')).toBe(true);
    expect(stateOf(status, 'urn:uuid:1').state).toBe('good');
    await world.pass(2_250);
    expect(stateOf(status, 'urn:uuid:1').state).toBe('revoked');
    expect(calls).toBe(1);
    world.clock.advance(-60_000);
    expect(stateOf(status, 'urn:uuid:1').state).toBe('revoked');
  });

  test('an issuer that cannot be reached is believed to have revoked until it can be asked', async () => {
    let isAway = true;
    const resolver: DidResolver = {
      ...connector.resolver,
      resolve: async (did) => (isAway && did === accreditor.did ? undefined : connector.resolver.resolve(did)),
    };
    const world = await start({ resolver });
    await using status = world.status;
    await heard(world);
    const { clock, line } = world;
    line.event(1, noticeOf(accreditor, { type: 'revoked', subject: 'urn:uuid:1', ...at(clock) }), 'urn:uuid:1');
    const forger = { keys: broker.keys, did: accreditor.did };
    line.event(2, noticeOf(forger, { type: 'revoked', subject: 'urn:uuid:2', ...at(clock) }), 'urn:uuid:2');
    await settled(world, 3);
    expect(status.view().held).toBe(2);
    expect(stateOf(status, 'urn:uuid:1').state).toBe('revoked');
    expect(stateOf(status, 'urn:uuid:2').state).toBe('revoked');
    isAway = false;
    await eventually(
      async () => {
        await world.pass(250);
        return status.view().held;
      },
      (held) => held === 0,
    );
    expect(stateOf(status, 'urn:uuid:1').state).toBe('revoked');
    expect(stateOf(status, 'urn:uuid:2', 300_000).state).toBe('good');
  });

  test('an issuer whose host hangs does not hold up the stream', async () => {
    const resolver: DidResolver = {
      ...connector.resolver,
      resolve: (did) => (did === accreditor.did ? new Promise(() => undefined) : connector.resolver.resolve(did)),
    };
    const world = await start({ resolver });
    await using status = world.status;
    await heard(world);
    const { clock, line } = world;
    for (const n of [1, 2, 3])
      line.event(n, noticeOf(accreditor, { type: 'revoked', subject: `urn:uuid:${n}`, ...at(clock) }), `urn:uuid:${n}`);
    await eventually(
      async () => {
        await world.pass(50);
        return status.view().n;
      },
      (n) => n === 3,
    );
    expect(stateOf(status, 'urn:uuid:3').state).toBe('revoked');
  });

  test('the broker’s own document may be out of reach for a while', async () => {
    let isAway = false;
    const resolver: DidResolver = {
      ...connector.resolver,
      resolve: async (did) => (isAway && did === broker.did ? undefined : connector.resolver.resolve(did)),
      key: async (did, kid, use) => (isAway && did === broker.did ? undefined : connector.resolver.key(did, kid, use)),
    };
    const world = await start({ resolver });
    await using status = world.status;
    await heard(world);
    isAway = true;
    await settled(world, 1);
    world.clock.advance(601_000);
    await reconnected(world, 2);
    world.line.event(2, null, 'urn:uuid:9');
    world.line.heartbeat(2);
    await world.pass(6_000);
    await reconnected(world, 3);
    expect(world.line.asked).toEqual([undefined, '1', '1']);
    expect(status.view().n).toBe(1);
  });

  test('one listener that fails does not keep the others from hearing', async () => {
    const world = await start();
    await using status = world.status;
    await heard(world);
    const said: StandingChanged[] = [];
    status.onStanding(() => {
      throw new Error('broken');
    });
    status.onStanding((change) => said.push(change));
    world.line.event(1, null, 'urn:stekker:1:policy:x', { type: 'policy' });
    world.line.event(2, null, 'A'.repeat(43), { type: 'agreement-ended' });
    await settled(world, 3);
    expect(said.map(({ type }) => type)).toEqual(['policy', 'agreement-ended', 'keys']);
    expect(stateOf(status, 'A'.repeat(43)).state).toBe('revoked');
  });

  test('waking it tries again at once', async () => {
    const world = await start();
    await using status = world.status;
    status.wake();
    await reconnected(world, 2);
  });
});
