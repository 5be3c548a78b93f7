import { sourceText } from '../sink.ts';
import { demand, same, until } from '../waiting.ts';
import { open, ourProcess, ourSideOf, type Scenarios, type World } from '../world.ts';

/** We are the provider, EDC is the consumer. */

/** What EDC knows of us. */
const us = ({ ours }: World) => ({ id: ours.id, base: ours.base });

/** EDC negotiates for an asset of ours; its pid and the agreement. */
export const agreedByEdc = async (world: World, asset: string): Promise<{ pid: string; agreementId: string }> => {
  const { operator } = world.consumer;
  const pid = await operator.negotiate(us(world), asset, await operator.findOffer(us(world), asset));
  const end = await until('EDC to end its negotiation', async () => {
    const its = await operator.negotiation(pid);
    return its.state === 'TERMINATED' || its.agreementId !== undefined ? its : undefined;
  });
  demand(end.state !== 'TERMINATED', `EDC ended it: ${JSON.stringify(end)}`);
  return { pid, agreementId: end.agreementId ?? '' };
};

export const providing: Scenarios = {
  'provider: EDC reads our catalog and negotiates to FINALIZED': async (world) => {
    const { asset } = await world.ours.publish({ policy: { rules: open }, assurance: 'plain-dsp' });
    const ids = (await world.consumer.operator.catalog(us(world))).map((dataset) => dataset['@id']);
    demand(ids.includes(asset), `EDC does not see it: ${ids}`);
    const { pid } = await agreedByEdc(world, asset);
    const row = await ourSideOf(world.ours, 'negotiations', pid);
    const end = await ourProcess(world.ours, 'negotiations', String(row.id), ['FINALIZED', 'TERMINATED']);
    same([end.state, end.peer], ['FINALIZED', 'consumer'], 'our side');
    return undefined;
  },
  'provider: EDC gets the address of a pull, and reads our data plane with it': async (world) => {
    const { consumer, sink } = world;
    const { asset } = await world.ours.publish({ policy: { rules: open }, assurance: 'plain-dsp' });
    const { agreementId } = await agreedByEdc(world, asset);
    const hook = `/hooks/${asset}`;
    const pid = await consumer.operator.transfer(us(world), agreementId, { hook: `${sink.origin}${hook}` });
    const { endpoint, authorization } = addressIn((await sink.arrived(hook)).body);
    for (const token of [authorization, `Bearer ${authorization}`]) {
      const got = await fetch(endpoint, { headers: { authorization: token } });
      same([got.status, await got.text()], [200, sourceText], 'what EDC reads');
    }
    same((await fetch(endpoint, { headers: { authorization: 'x' } })).status, 401, 'without the token');
    const row = await ourSideOf(world.ours, 'transfers', pid);
    same([row.state, row.ending], ['STARTED', null], 'a pull that nobody ended is open');
    return undefined;
  },
};

const edc = 'https://w3id.org/edc/v0.0.1/ns/';

/** The data address in a call-back of EDC. */
const addressIn = (body: string): { readonly endpoint: string; readonly authorization: string } => {
  const { payload } = JSON.parse(body) as { payload: { dataAddress: { properties: Record<string, string> } } };
  const { properties } = payload.dataAddress;
  return { endpoint: properties[`${edc}endpoint`] ?? '', authorization: properties[`${edc}authorization`] ?? '' };
};
