import { sourceText } from '../sink.ts';
import { demand, same, until } from '../waiting.ts';
import { open, ourProcess, ourSideOf, type Scenarios, type World } from '../world.ts';

/** We are the provider, EDC is the consumer. */

/** What EDC knows of us. */
export const us = ({ ours }: World) => ({ id: ours.id, base: ours.base });

/** EDC negotiates for an asset of ours; its pid and the agreement. */
export const agreedByEdc = async (world: World, asset: string): Promise<{ pid: string; agreementId: string }> => {
  const { operator } = world.consumer;
  const pid = await operator.negotiate(us(world), asset, await operator.findOffer(us(world), asset));
  const end = await until('EDC to end its negotiation', async () => {
    const its = await operator.negotiation(pid);
    return ['TERMINATED', 'FINALIZED'].includes(its.state) ? its : undefined;
  });
  demand(end.state !== 'TERMINATED', `EDC ended it: ${JSON.stringify(end)}`);
  return { pid, agreementId: end.agreementId ?? '' };
};

const edc = 'https://w3id.org/edc/v0.0.1/ns/';

interface CallBack {
  readonly type: string;
  readonly payload: { readonly dataAddress?: { readonly properties: Readonly<Record<string, string>> } };
}

/** The data address that EDC calls back with. @throws when it says that the transfer was terminated. */
const addressAt = ({ sink }: World, hook: string): Promise<Readonly<Record<string, string>>> =>
  until(`an address at ${hook}`, () => {
    const said = sink.arrivals.filter(({ path }) => path === hook).map(({ body }) => JSON.parse(body) as CallBack);
    const ended = said.find(({ type }) => type === 'TransferProcessTerminated');
    demand(ended === undefined, `EDC terminated its transfer: ${JSON.stringify(ended)}`);
    return said.find(({ payload }) => payload.dataAddress !== undefined)?.payload.dataAddress?.properties;
  });

/** A pull of EDC from us that is STARTED. */
export interface EdcPull {
  /** EDC's pid. */
  readonly pid: string;
  /** Our pid. */
  readonly id: string;
  readonly agreementId: string;
  /** Reads with EDC's token, or another `Authorization`. */
  readonly read: (authorization?: string) => Promise<Response>;
}

export const pulledByEdc = async (world: World, rules: object = open): Promise<EdcPull> => {
  const { consumer, sink, ours } = world;
  const { asset } = await ours.publish({ policy: { rules }, assurance: 'plain-dsp' });
  const { agreementId } = await agreedByEdc(world, asset);
  const hook = `/hooks/${crypto.randomUUID()}`;
  const pid = await consumer.operator.transfer(us(world), agreementId, { hook: `${sink.origin}${hook}` });
  const address = await addressAt(world, hook);
  const [endpoint, authorization] = [address[`${edc}endpoint`] ?? '', address[`${edc}authorization`] ?? ''];
  const { id } = await ourSideOf(ours, 'transfers', pid);
  return {
    pid,
    id: String(id),
    agreementId,
    read: (other = authorization) => fetch(endpoint, { headers: { authorization: other } }),
  };
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
    const pull = await pulledByEdc(world);
    const got = await pull.read();
    same([got.status, await got.text()], [200, sourceText], 'what EDC reads');
    same((await pull.read('x')).status, 401, 'without the token');
    const row = await ourProcess(world.ours, 'transfers', pull.id, ['STARTED']);
    same(row.ending, null, 'a pull that nobody ended is open');
    return undefined;
  },
  'provider: we push to the address that EDC names, once': async (world) => {
    const { consumer, ours, sink } = world;
    const { asset } = await ours.publish({ policy: { rules: open }, assurance: 'plain-dsp' });
    const { agreementId } = await agreedByEdc(world, asset);
    const path = `/pushed/${crypto.randomUUID()}`;
    const pid = await consumer.operator.transfer(us(world), agreementId, { sink: `${sink.origin}${path}` });
    const { method, body } = await sink.arrived(path);
    same([method, body], ['POST', sourceText], 'what arrives');
    const { id } = await ourSideOf(ours, 'transfers', pid);
    await ourProcess(ours, 'transfers', String(id), ['COMPLETED']);
    await until('EDC to be COMPLETED', async () => {
      const state = await consumer.operator.transferState(pid);
      return state === 'COMPLETED' ? state : undefined;
    });
    same(sink.arrivals.filter((one) => one.path === path).length, 1, 'how often it arrives');
    return undefined;
  },
  'provider: behind the term of an agreement the pull of EDC reads nothing, and is ended': async (world) => {
    const within = (operator: string, rightOperand: string) => ({
      leftOperand: `${edc}inForceDate`,
      operator,
      rightOperand,
    });
    const rules = { permission: [{ action: 'use', constraint: [within('lteq', 'contractAgreement+8s')] }] };
    const pull = await pulledByEdc(world, rules);
    same((await pull.read()).status, 200, 'a read within the term');
    await ourProcess(world.ours, 'transfers', pull.id, ['TERMINATED']);
    const late = await pull.read();
    demand([401, 403].includes(late.status), `a read behind the term: ${late.status}`);
    return undefined;
  },
};
