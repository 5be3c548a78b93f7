import { systemClock } from '../../../kernel/clock.ts';
import type { Line } from '../line.ts';
import { demand, same, until } from '../waiting.ts';
import { open, ourProcess, ourSideOf, type Scenarios, type World } from '../world.ts';
import { offeredByEdc } from './consuming.ts';
import { pulledByEdc, us } from './providing.ts';

/** Either side ends what runs, with a reason; EDC keeps none, so ours is the only record of it. */

const reason = 'Niet meer nodig.';

/** Holds the messages to a path up, as a broken connection would, until what is inside has happened. */
const held = async <Value>(line: Line, path: string, work: () => Promise<Value>): Promise<Value> => {
  line.fate = (message) => (message.path.endsWith(path) ? { status: 503 } : 'passes');
  try {
    return await work();
  } finally {
    line.fate = undefined;
  }
};

const endedAs = (row: Record<string, unknown>, by: 'us' | 'peer', what: string): void => {
  same(row.state, 'TERMINATED', what);
  const ending = row.ending as { by: string; reasons: string[] } | null;
  same(ending?.by, by, `who ended ${what}`);
  demand(ending?.reasons.includes(reason) === true, `the reason of ${what} is lost: ${JSON.stringify(ending)}`);
};

const edcEnds = (of: World['provider'], pid: string) =>
  until('EDC to be TERMINATED', async () => {
    const { state } = await of.operator.negotiation(pid);
    return state === 'TERMINATED' ? state : undefined;
  });

const pauseMs = 500;

/**
 * EDC's operator ends a negotiation. Said while it is about to send something, the word is lost with what it then saves: it is
 * said again until it counts.
 */
const endedByEdc = (of: World['provider'], pid: string) =>
  until('EDC to take the word of its operator', async () => {
    const { state } = await of.operator.negotiation(pid);
    if (state === 'TERMINATED') return state;
    if (state !== 'TERMINATING') await of.operator.terminateNegotiation(pid, reason).catch(() => undefined);
    await systemClock.sleep(pauseMs);
    return undefined;
  });

const terminate = { do: 'terminate', code: 'operator', reason: [reason] };

const decide = ({ ours }: World, kind: 'negotiations' | 'transfers', id: unknown) =>
  ours.operate('POST', `/v1/${kind}/${encodeURIComponent(String(id))}/decisions`, terminate);

/** A negotiation of ours that EDC has heard of, without an agreement yet. */
const askedFor = async (world: World, dataset: string) => {
  const { id } = await world.ours.operate('POST', '/v1/negotiations', { provider: 'provider', dataset });
  return ourProcess(world.ours, 'negotiations', String(id), ['REQUESTED']);
};

/** A negotiation of EDC that we have heard of; its pid there and our side. */
const askedForByEdc = async (world: World) => {
  const { asset } = await world.ours.publish({ policy: { rules: open }, assurance: 'plain-dsp' });
  const { operator } = world.consumer;
  const pid = await operator.negotiate(us(world), asset, await operator.findOffer(us(world), asset));
  return { pid, row: await ourSideOf(world.ours, 'negotiations', pid) };
};

export const ending: Scenarios = {
  'ending: we end a negotiation as its consumer': async (world) => {
    const { lines, ours, provider } = world;
    const dataset = await offeredByEdc(world, 'ended-by-us');
    const row = await held(lines.toUs, '/agreement', async () => {
      const its = await askedFor(world, dataset);
      await decide(world, 'negotiations', its.id);
      return ourProcess(ours, 'negotiations', String(its.id), ['TERMINATED']);
    });
    endedAs(row, 'us', 'our negotiation');
    await edcEnds(provider, String(row.peerPid));
    return undefined;
  },
  'ending: EDC ends a negotiation as its provider': async (world) => {
    const { lines, ours, provider } = world;
    const dataset = await offeredByEdc(world, 'ended-by-edc');
    const row = await held(lines.toUs, '/agreement', async () => {
      const its = await askedFor(world, dataset);
      await endedByEdc(provider, String(its.peerPid));
      return ourProcess(ours, 'negotiations', String(its.id), ['TERMINATED']);
    });
    endedAs(row, 'peer', 'our negotiation');
    return undefined;
  },
  'ending: we end a negotiation as its provider': async (world) => {
    const { lines, ours, consumer } = world;
    const { pid, row } = await held(lines.toConsumer, '/agreement', async () => {
      const asked = await askedForByEdc(world);
      await decide(world, 'negotiations', asked.row.id);
      return { ...asked, row: await ourProcess(ours, 'negotiations', String(asked.row.id), ['TERMINATED']) };
    });
    endedAs(row, 'us', 'our negotiation');
    await edcEnds(consumer, pid);
    return undefined;
  },
  'ending: EDC ends a negotiation as its consumer': async (world) => {
    const { lines, ours, consumer } = world;
    const row = await held(lines.toConsumer, '/agreement', async () => {
      const asked = await askedForByEdc(world);
      await endedByEdc(consumer, asked.pid);
      return ourProcess(ours, 'negotiations', String(asked.row.id), ['TERMINATED']);
    });
    endedAs(row, 'peer', 'our negotiation');
    return undefined;
  },
  'ending: EDC ends a pull, and its token opens nothing any more': async (world) => {
    const pull = await pulledByEdc(world);
    await world.consumer.operator.terminateTransfer(pull.pid, reason);
    const row = await ourProcess(world.ours, 'transfers', pull.id, ['TERMINATED']);
    endedAs(row, 'peer', 'our transfer');
    same((await pull.read()).status, 401, 'a read behind the end');
    return undefined;
  },
  'ending: we end a pull, and its token opens nothing any more': async (world) => {
    const pull = await pulledByEdc(world);
    await decide(world, 'transfers', pull.id);
    same((await pull.read()).status, 401, 'a read behind the end');
    endedAs(await ourProcess(world.ours, 'transfers', pull.id, ['TERMINATED']), 'us', 'our transfer');
    await until('EDC to be TERMINATED', async () => {
      const state = await world.consumer.operator.transferState(pull.pid);
      return state === 'TERMINATED' ? state : undefined;
    });
    return undefined;
  },
  'ending: EDC suspends a pull, and its token opens nothing any more': async (world) => {
    const pull = await pulledByEdc(world);
    await world.consumer.operator.suspendTransfer(pull.pid, reason);
    await ourProcess(world.ours, 'transfers', pull.id, ['SUSPENDED']);
    same((await pull.read()).status, 401, 'a read while it is suspended');
    return undefined;
  },
  'ending: we end the agreement, and what runs under it ends': async (world) => {
    const pull = await pulledByEdc(world);
    // EDC keeps an agreement under an id of its own, and ours beside it.
    const { agreementId } = await ourProcess(world.ours, 'transfers', pull.id, ['STARTED']);
    const path = `/v1/agreements/${encodeURIComponent(String(agreementId))}/end`;
    await world.ours.operate('POST', path, { reason });
    same((await pull.read()).status, 401, 'a read behind the end');
    endedAs(await ourProcess(world.ours, 'transfers', pull.id, ['TERMINATED']), 'us', 'our transfer');
    return undefined;
  },
  'ending: a cosigned offer is not there for EDC': async (world) => {
    const { consumer, ours } = world;
    const { asset, offer } = await ours.publish({ id: 'urn:cosigned', policy: { rules: open } });
    const seen = await consumer.operator.catalog(us(world), 0, 500);
    demand(!seen.some((dataset) => dataset['@id'] === asset), 'EDC sees it');
    const pid = await consumer.operator.negotiate(us(world), asset, { '@id': offer, ...open } as never);
    await edcEnds(consumer, pid);
    return `of ${seen.length} datasets that it sees`;
  },
};
