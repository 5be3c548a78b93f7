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
};
