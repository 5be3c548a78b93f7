import { managementToken } from '../../support/chain-world.ts';
import { sourceText } from '../sink.ts';
import { demand, same, until } from '../waiting.ts';
import { open, ourProcess, type Scenarios, type World } from '../world.ts';

/** We are the consumer, EDC is the provider. */

type Body = Record<string, unknown>;

/** Offers an asset at EDC under a fresh name. */
export const offeredByEdc = async ({ provider, sink }: World, name: string, rules = open): Promise<string> => {
  await provider.operator.offer(name, `${sink.origin}/source`, rules as never);
  return name;
};

/** Negotiates for a dataset of EDC and waits for the end. */
export const agreed = async ({ ours }: World, dataset: string): Promise<Body> => {
  const { id } = await ours.operate('POST', '/v1/negotiations', { provider: 'provider', dataset });
  const row = await ourProcess(ours, 'negotiations', String(id), ['FINALIZED', 'TERMINATED']);
  demand(row.state === 'FINALIZED', `it ended as ${JSON.stringify(row)}`);
  return until('the agreement to be in force', async () => {
    const its = await ours.operate('GET', `/v1/negotiations/${encodeURIComponent(String(id))}`);
    return its.status === 'in-force' ? its : undefined;
  });
};

/** Asks EDC for a transfer under an agreement; our pid. */
const begun = async ({ ours }: World, agreementId: unknown, push: boolean): Promise<string> =>
  String((await ours.operate('POST', '/v1/transfers', { agreementId, push })).id);

/** A term of some seconds, as an owner of EDC writes it. */
const termOf = (seconds: number) => {
  const edc = 'https://w3id.org/edc/v0.0.1/ns/';
  const within = (operator: string, rightOperand: string) => ({
    '@type': 'Constraint',
    leftOperand: `${edc}inForceDate`,
    operator,
    rightOperand,
  });
  const and = [within('gteq', 'contractAgreement+0s'), within('lteq', `contractAgreement+${seconds}s`)];
  return { permission: [{ action: 'use', constraint: [{ '@type': 'LogicalConstraint', and }] }] };
};

export const consuming: Scenarios = {
  'consumer: every page of the catalog of EDC, by its links': async (world) => {
    const { provider, ours, sink } = world;
    const names = Array.from({ length: 120 }, (_, place) => `paged-${place}`);
    for (const name of names) await provider.operator.addAsset(name, `${sink.origin}/source`);
    await provider.operator.addDefinition('paged', { operator: 'like', operandRight: 'paged-%' }, open as never);
    const found: string[] = [];
    let pages = 0;
    for (let after = ''; ; pages += 1) {
      const page = await ours.operate('GET', `/v1/catalog?provider=provider&after=${encodeURIComponent(after)}`);
      for (const { id } of page.items as { id: string }[]) found.push(id);
      if (typeof page.next !== 'string') break;
      after = page.next;
    }
    same(found.filter((id) => id.startsWith('paged-')).toSorted(), names.toSorted(), 'the datasets');
    demand(pages >= 2, 'there was only one page');
    return `${found.length} datasets on ${pages + 1} pages`;
  },
  'consumer: negotiation to FINALIZED': async (world) => {
    const row = await agreed(world, await offeredByEdc(world, 'plain'));
    const agreement = await world.ours.operate('GET', `/v1/agreements/${encodeURIComponent(String(row.agreementId))}`);
    same([agreement.assurance, agreement.peer, agreement.role], ['plain-dsp', 'provider', 'consumer'], 'the agreement');
    return undefined;
  },
  'consumer: EDC pushes to our own address': async (world) => {
    const { ours } = world;
    const { agreementId } = await agreed(world, await offeredByEdc(world, 'pushed-to-us'));
    const id = await begun(world, agreementId, true);
    const row = await until('the push to arrive', async () => {
      const its = await ours.operate('GET', `/v1/transfers/${encodeURIComponent(id)}`);
      return its.received === null || its.received === undefined ? undefined : its;
    });
    same((row.received as { bytes: number }).bytes, sourceText.length, 'what came');
    const headers = { authorization: `Bearer ${managementToken}` };
    const place = `http://127.0.0.1:${ours.running.managementPort}/v1/transfers/${encodeURIComponent(id)}/content`;
    same(await (await fetch(place, { headers })).text(), sourceText, 'its content');
    await ourProcess(ours, 'transfers', id, ['COMPLETED']);
    return undefined;
  },
  'consumer: a transfer whose answer was lost is asked for again, and is one at EDC': async (world) => {
    const { lines, ours, provider } = world;
    const { agreementId } = await agreed(world, await offeredByEdc(world, 'lost-transfer'));
    let lost = 0;
    lines.toProvider.fate = ({ path }) => {
      if (!path.endsWith('/transfers/request') || lost > 0) return 'passes';
      lost += 1;
      return 'answer-lost';
    };
    const before = (await provider.operator.transfers()).length;
    await ourProcess(ours, 'transfers', await begun(world, agreementId, true), ['COMPLETED']);
    lines.toProvider.fate = undefined;
    same((await provider.operator.transfers()).length - before, 1, 'transfers at EDC');
    return undefined;
  },
  'consumer: a request whose answer was lost makes two negotiations at EDC; one counts, the other ends': async (
    world,
  ) => {
    const { lines, provider, ours } = world;
    const dataset = await offeredByEdc(world, 'lost-request');
    let asked = 0;
    lines.toProvider.fate = ({ path }) => {
      if (!path.endsWith('/negotiations/request')) return 'passes';
      asked += 1;
      return asked === 1 ? 'answer-lost' : 'passes';
    };
    // Its agreement would tell that the first request arrived.
    lines.toUs.fate = ({ path }) => (path.endsWith('/agreement') && asked < 2 ? { status: 503 } : 'passes');
    const row = await agreed(world, dataset);
    lines.toProvider.fate = undefined;
    lines.toUs.fate = undefined;
    const at = await until('both to end at EDC', async () => {
      const its = (await provider.operator.negotiations()).filter(({ correlationId }) => correlationId === row.id);
      return its.every(({ state }) => ['FINALIZED', 'TERMINATED'].includes(state)) ? its : undefined;
    });
    same(at.map(({ state }) => state).toSorted(), ['FINALIZED', 'TERMINATED'], 'the negotiations at EDC');
    same(at.find(({ state }) => state === 'FINALIZED')?.id, row.peerPid, 'the one that counts');
    const agreements = await ours.operate('GET', '/v1/agreements?limit=500');
    const of = (agreements.items as Body[]).filter((one) => one.dataset === dataset && one.status === 'in-force');
    same(of.length, 1, 'agreements of ours');
    return undefined;
  },
  'consumer: an offer without rules is refused with a reason, beside others that stand': async (world) => {
    const dataset = await offeredByEdc(world, 'without-rules', {} as never);
    const path = `/v1/catalog/${dataset}?provider=provider`;
    const { unreadable } = (await world.ours.operate('GET', path)) as { unreadable: { why: string }[] };
    demand(unreadable[0]?.why.includes('needs a permission') === true, `it is shown as ${JSON.stringify(unreadable)}`);
    return undefined;
  },
  'consumer: behind the term of an agreement nothing is asked for any more': async (world) => {
    const { ours } = world;
    const { agreementId } = await agreed(world, await offeredByEdc(world, 'short-lived', termOf(4) as never));
    await ourProcess(ours, 'transfers', await begun(world, agreementId, true), ['COMPLETED']);
    const late = await until('the term to be over', async () => {
      const its = await ours.running.operate('POST', '/v1/transfers', { agreementId, push: true });
      return its.status < 300 ? undefined : its;
    });
    same([late.status, late.body.type], [409, 'urn:stekker:1:error:agreement-ended'], 'a transfer behind the term');
    return undefined;
  },
};
