import { isJsonObject, type Json, type JsonObject } from '../../../contracts/json.ts';

/** EDC's Management API, v3: what its operator does (in its own JSON-LD, where a list of one may be the one). */

const edc = 'https://w3id.org/edc/v0.0.1/ns/';
const protocol = 'dataspace-protocol-http:2025-1';

export interface Counterparty {
  readonly id: string;
  /** `<base>` of the Dataspace Protocol. */
  readonly base: string;
}

export interface EdcNegotiation {
  readonly id: string;
  readonly state: string;
  readonly agreementId: string | undefined;
  /** The other side's pid. */
  readonly correlationId: string;
  readonly createdAt: number;
}

export interface EdcTransfer {
  readonly id: string;
  readonly state: string;
}

export interface EdcOperator {
  readonly isReady: () => Promise<boolean>;
  /** Registers an asset whose bytes an HTTP source gives, and offers it under these rules. */
  readonly offer: (asset: string, source: string, rules: JsonObject) => Promise<void>;
  readonly addAsset: (asset: string, source: string) => Promise<void>;
  /** Offers every asset whose id begins so, under one definition each or all together. */
  readonly addDefinition: (name: string, assets: JsonObject, rules: JsonObject) => Promise<void>;
  readonly catalog: (of: Counterparty, offset?: number, limit?: number) => Promise<readonly JsonObject[]>;
  /** The first offer of a dataset of somebody else: its id and rules. @throws when there is none. */
  readonly findOffer: (of: Counterparty, dataset: string) => Promise<JsonObject>;
  /** Asks for an agreement; when it is reached or refused, word of it comes to `hook`, where one is given. */
  readonly negotiate: (of: Counterparty, dataset: string, offer: JsonObject, hook?: string) => Promise<string>;
  readonly negotiation: (id: string) => Promise<EdcNegotiation>;
  readonly negotiations: (limit?: number) => Promise<readonly EdcNegotiation[]>;
  readonly terminateNegotiation: (id: string, reason: string) => Promise<void>;
  /** Asks for a transfer; a push goes to `sink`, the address of a pull comes to `hook`. */
  readonly transfer: (
    of: Counterparty,
    agreementId: string,
    way: { readonly sink: string } | { readonly hook: string },
  ) => Promise<string>;
  readonly transferState: (id: string) => Promise<string>;
  readonly transfers: () => Promise<readonly EdcTransfer[]>;
  readonly suspendTransfer: (id: string, reason: string) => Promise<void>;
  readonly resumeTransfer: (id: string) => Promise<void>;
  readonly terminateTransfer: (id: string, reason: string) => Promise<void>;
}

const timeoutMs = 60_000;

/** A member by its name in one of the forms that EDC writes it in. */
const memberOf = (value: JsonObject, name: string): Json | undefined =>
  value[name] ?? value[`odrl:${name}`] ?? value[`dcat:${name}`] ?? value[`http://www.w3.org/ns/odrl/2/${name}`];

const listOf = (value: Json | undefined): readonly JsonObject[] =>
  [value ?? []].flat().filter((one): one is JsonObject => isJsonObject(one as Json));

const textIn = (value: JsonObject, name: string): string => String(value[name] ?? '');

const framed = (body: JsonObject): JsonObject => ({ '@context': { '@vocab': edc }, ...body });

const policyOf = (type: 'Set' | 'odrl:Offer', rules: JsonObject): JsonObject => ({
  '@context': 'http://www.w3.org/ns/odrl.jsonld',
  '@type': type,
  ...rules,
});

const negotiationOf = (body: JsonObject): EdcNegotiation => ({
  id: textIn(body, '@id'),
  state: textIn(body, 'state'),
  agreementId: typeof body.contractAgreementId === 'string' ? body.contractAgreementId : undefined,
  correlationId: textIn(body, 'correlationId'),
  createdAt: Number(body.createdAt),
});

const caller =
  ({ url, key }: { readonly url: string; readonly key: string }) =>
  async (method: string, path: string, body?: JsonObject): Promise<Json> => {
    const answer = await fetch(`${url}/v3${path}`, {
      method,
      headers: { 'content-type': 'application/json', 'x-api-key': key },
      ...(body === undefined ? {} : { body: JSON.stringify(framed(body)) }),
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await answer.text();
    // 409: it is there already.
    if (!answer.ok && answer.status !== 409) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === '' ? null : (JSON.parse(text) as Json);
  };

type Call = ReturnType<typeof caller>;

const idOf = (answer: Json): string => {
  if (!isJsonObject(answer) || typeof answer['@id'] !== 'string') throw new Error(`no id: ${JSON.stringify(answer)}`);
  return answer['@id'];
};

const objectOf = (answer: Json): JsonObject => {
  if (!isJsonObject(answer)) throw new Error(`no object: ${JSON.stringify(answer)}`);
  return answer;
};

const offering = (call: Call): Pick<EdcOperator, 'offer' | 'addAsset' | 'addDefinition'> => {
  const addAsset = async (asset: string, source: string): Promise<void> => {
    const dataAddress = { type: 'HttpData', baseUrl: source, proxyPath: 'true', proxyQueryParams: 'true' };
    await call('POST', '/assets', {
      '@id': asset,
      properties: { name: `name of ${asset}`, contenttype: 'application/json' },
      dataAddress,
    });
  };
  const addDefinition = async (name: string, assets: JsonObject, rules: JsonObject): Promise<void> => {
    const open = { permission: [{ action: 'use' }] };
    for (const [id, policy] of [
      ['open', open],
      [name, rules],
    ] as const)
      await call('POST', '/policydefinitions', {
        '@type': 'PolicyDefinition',
        '@id': id,
        policy: policyOf('Set', policy),
      });
    await call('POST', '/contractdefinitions', {
      '@type': 'ContractDefinition',
      '@id': name,
      accessPolicyId: 'open',
      contractPolicyId: name,
      assetsSelector: [{ '@type': 'Criterion', operandLeft: `${edc}id`, ...assets }],
    });
  };
  return {
    addAsset,
    addDefinition,
    offer: async (asset, source, rules) => {
      await addAsset(asset, source);
      await addDefinition(`of-${asset}`, { operator: '=', operandRight: asset }, rules);
    },
  };
};

const counterparty = ({ id, base }: Counterparty): JsonObject => ({
  counterPartyId: id,
  counterPartyAddress: base,
  protocol,
});

const callback = (uri: string, events: readonly string[]): JsonObject => ({
  '@type': 'CallbackAddress',
  transactional: false,
  uri,
  events,
});

const asking = (call: Call): Pick<EdcOperator, 'catalog' | 'findOffer' | 'negotiate'> => ({
  catalog: async (of, offset = 0, limit = 50) => {
    const querySpec = { '@type': 'QuerySpec', offset, limit };
    const body = { '@type': 'CatalogRequest', ...counterparty(of), querySpec };
    return listOf(memberOf(objectOf(await call('POST', '/catalog/request', body)), 'dataset'));
  },
  findOffer: async (of, dataset) => {
    const body = { '@type': 'DatasetRequest', '@id': dataset, ...counterparty(of) };
    const [offer] = listOf(memberOf(objectOf(await call('POST', '/catalog/dataset/request', body)), 'hasPolicy'));
    if (offer === undefined) throw new Error(`EDC sees no offer of ${dataset}`);
    return offer;
  },
  negotiate: async (of, dataset, offer, hook) => {
    const { counterPartyAddress } = counterparty(of);
    const policy = { ...offer, '@type': 'odrl:Offer', assigner: of.id, target: dataset };
    const events = ['contract.negotiation.finalized', 'contract.negotiation.terminated'];
    const body = {
      '@type': 'ContractRequest',
      counterPartyAddress,
      protocol,
      policy: policyOf('odrl:Offer', policy),
      ...(hook === undefined ? {} : { callbackAddresses: [callback(hook, events)] }),
    };
    return idOf(await call('POST', '/contractnegotiations', body as JsonObject));
  },
});

const transferring = (
  call: Call,
): Pick<
  EdcOperator,
  'transfer' | 'transferState' | 'transfers' | 'suspendTransfer' | 'resumeTransfer' | 'terminateTransfer'
> => ({
  transfer: async (of, agreementId, way) => {
    const events = ['transfer.process.started', 'transfer.process.terminated'];
    const { counterPartyAddress } = counterparty(of);
    const shared = { connectorId: of.id, contractId: agreementId, protocol, counterPartyAddress };
    return idOf(
      await call('POST', '/transferprocesses', {
        '@type': 'TransferRequest',
        ...(shared as JsonObject),
        ...('sink' in way
          ? { transferType: 'HttpData-PUSH', dataDestination: { type: 'HttpData', baseUrl: way.sink } }
          : { transferType: 'HttpData-PULL', callbackAddresses: [callback(way.hook, events)] }),
      }),
    );
  },
  transferState: async (id) => textIn(objectOf(await call('GET', `/transferprocesses/${id}/state`)), 'state'),
  transfers: async () =>
    listOf(await call('POST', '/transferprocesses/request', { '@type': 'QuerySpec', limit: 10_000 })).map((one) => ({
      id: textIn(one, '@id'),
      state: textIn(one, 'state'),
    })),
  suspendTransfer: async (id, reason) => {
    await call('POST', `/transferprocesses/${id}/suspend`, { '@type': 'SuspendTransfer', reason });
  },
  resumeTransfer: async (id) => {
    await call('POST', `/transferprocesses/${id}/resume`);
  },
  terminateTransfer: async (id, reason) => {
    await call('POST', `/transferprocesses/${id}/terminate`, { '@type': 'TerminateTransfer', reason });
  },
});

export const createOperator = (place: { readonly url: string; readonly key: string }): EdcOperator => {
  const call = caller(place);
  return {
    isReady: async () => {
      try {
        await call('POST', '/assets/request', { '@type': 'QuerySpec' });
        return true;
      } catch {
        return false;
      }
    },
    ...offering(call),
    ...asking(call),
    ...transferring(call),
    negotiation: async (id) => negotiationOf(objectOf(await call('GET', `/contractnegotiations/${id}`))),
    negotiations: async (limit = 10_000) =>
      listOf(await call('POST', '/contractnegotiations/request', { '@type': 'QuerySpec', limit })).map(negotiationOf),
    terminateNegotiation: async (id, reason) => {
      const body = { '@type': 'TerminateNegotiation', '@id': id, reason };
      await call('POST', `/contractnegotiations/${id}/terminate`, body);
    },
  };
};
