import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { calculateJwkThumbprint, type JWK, SignJWT } from 'jose';
import { z } from 'zod';
import { messageScopes, tokenScopes } from '../../connector/base.ts';
import { readSegments } from '../../connector/metering/segments.ts';
import { dataAddress, propertiesOf } from '../../contracts/dsp/transfer.ts';
import type { Did } from '../../contracts/ids.ts';
import { type UsageClose, type UsageOpen, usageEntry } from '../../contracts/ledger/usage-entry.ts';
import { createTokenService, type TokenService } from '../../kernel/auth.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeFiles } from '../../kernel/files.ts';
import { openKeys, type ParticipantKeys, participantKeyNeeds, participantKeys } from '../../kernel/keys.ts';
import { systemRandom, uuidV7 } from '../../kernel/random.ts';
import type { ConnectorBench } from './chain-world.ts';

/** Whoever holds a consumer's keys and speaks past its connector: what a hostile consumer can send, made by hand. */

/** A key of its own, with proofs signed by another library than ours. */
export interface HostileKey {
  readonly jwk: JWK;
  readonly privateKey: KeyObject;
  readonly jkt: string;
}

export const hostileKey = async (): Promise<HostileKey> => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { kty = '', crv = '', x = '', y = '' } = publicKey.export({ format: 'jwk' });
  const jwk = { kty, crv, x, y };
  return { jwk, privateKey, jkt: await calculateJwkThumbprint(jwk) };
};

const proofOf = ({ jwk, privateKey }: HostileKey, claims: Record<string, string | number>): Promise<string> =>
  new SignJWT(claims).setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk }).sign(privateKey);

const digest = (text: string): string => createHash('sha256').update(text).digest('base64url');

export const newRequestId = (clock: Clock = systemClock): string => uuidV7(clock.now(), systemRandom);

/** A started transfer as its consumer knows it. */
export interface KnownTransfer {
  readonly pid: string;
  readonly endpoint: string;
  readonly tokenEndpoint: string;
  readonly grant: string;
}

/** An open, read-only look into the rows of a connector. */
export const rowsOf = (bench: ConnectorBench, sql: string, ...values: string[]): Record<string, unknown>[] => {
  const db = new DatabaseSync(join(bench.config.STEKKER_DATA, 'connector.sqlite'), { readOnly: true });
  try {
    return db.prepare(sql).all(...values);
  } finally {
    db.close();
  }
};

const transferRow = z.looseObject({ peer_pid: z.string(), data: z.string() });
const transferData = z.looseObject({ agreementId: z.string(), dataAddress: dataAddress.nullable() });

/** The transfer that runs under an agreement, with the secrets that only its consumer has. */
export const transferUnder = (bench: ConnectorBench, agreementId: string): KnownTransfer => {
  const rows = rowsOf(
    bench,
    "select peer_pid, data from process where protocol = 'transfers' and role = 'consumer' and state = 'STARTED'",
  ).map((row) => transferRow.parse(row));
  for (const { peer_pid: pid, data } of rows) {
    const { agreementId: of, dataAddress: address } = transferData.parse(JSON.parse(data));
    if (of !== agreementId || address === null) continue;
    const { tokenEndpoint = '', grant = '' } = propertiesOf(address);
    return { pid, endpoint: address.endpoint ?? '', tokenEndpoint, grant };
  }
  throw new Error(`no transfer is started under ${agreementId}`);
};

/** The keys of a connector, out of its own folder. */
export const keysOf = async ({ config, did }: ConnectorBench): Promise<ParticipantKeys> => {
  const keySet = await openKeys({
    files: nodeFiles,
    path: join(config.STEKKER_DATA, 'keys', 'main.json'),
    passphrase: config.STEKKER_PASSPHRASE,
    random: systemRandom,
    needs: { ...participantKeyNeeds, seal: 'secret' },
  });
  return participantKeys(did, keySet);
};

/** The tokens of a connector, signed with its own keys. */
export const tokensOf = async (bench: ConnectorBench): Promise<TokenService> =>
  createTokenService({ keys: await keysOf(bench), clock: systemClock, random: systemRandom });

/** `Authorization` for a message of the Dataspace Protocol, credentials included. */
export const messageToken = (tokens: TokenService, audience: Did): string =>
  tokens.tokenFor({ audience, scopes: messageScopes });

export interface Wish {
  readonly transfer: KnownTransfer;
  readonly key: HostileKey;
  readonly provider: Did;
  readonly application?: string;
  readonly purpose?: string;
  /** For whom the SI token is, when it is not the provider. */
  readonly audience?: Did;
}

export interface Asked {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly token: string;
}

const jsonBody = async (answer: Response): Promise<Record<string, unknown>> =>
  z.record(z.string(), z.unknown()).parse(JSON.parse((await answer.text()) || '{}'));

/** Asks the token endpoint, by hand. */
export const askToken = async (tokens: TokenService, wish: Wish): Promise<Asked> => {
  const { transfer, key, provider, audience = provider } = wish;
  const iat = Math.floor(systemClock.now() / 1_000);
  const answer = await fetch(transfer.tokenEndpoint, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      dpop: await proofOf(key, { jti: newRequestId(), htm: 'POST', htu: transfer.tokenEndpoint, iat }),
      authorization: tokens.tokenFor({ audience, scopes: tokenScopes, jkt: key.jkt }),
    },
    body: new URLSearchParams({
      grant_type: 'urn:stekker:1:transfer',
      grant: transfer.grant,
      client_id: wish.application ?? 'urn:stekker:1:app:evacuatie@1.0.0',
      purpose: wish.purpose ?? 'urn:stekker:1:purpose:crisis',
    }),
  });
  const body = await jsonBody(answer);
  return { status: answer.status, body, token: typeof body.access_token === 'string' ? body.access_token : '' };
};

export interface Access {
  readonly endpoint: string;
  readonly key: HostileKey;
  readonly token: string;
  /** Behind the endpoint. */
  readonly rest?: string;
  readonly range?: string;
  readonly request?: string;
  /** What the proof says, where it differs from the request. */
  readonly says?: { readonly target?: string; readonly range?: string; readonly iat?: number; readonly htu?: string };
  /** Sent again as it was. */
  readonly proof?: string;
}

export interface Sent {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly request: string;
  readonly proof: string;
}

/** A request with its proof, ready to be sent. */
export const makeAccess = async (its: Access): Promise<Sent> => {
  const { key, token, says = {}, range = '' } = its;
  const url = new URL(`${its.endpoint}${its.rest ?? ''}`);
  const request = its.request ?? newRequestId();
  const target = says.target ?? `${url.pathname}${url.search}`;
  const claims = {
    jti: request,
    htm: 'GET',
    htu: says.htu ?? `${url.origin}${url.pathname}`,
    iat: says.iat ?? Math.floor(systemClock.now() / 1_000),
    ath: digest(token),
    tgt: digest(`GET\n${target}\n${says.range ?? range}`),
  };
  const proof = its.proof ?? (await proofOf(key, claims));
  const headers = { authorization: `DPoP ${token}`, dpop: proof, ...(range === '' ? {} : { range }) };
  return { url: url.href, headers, request, proof };
};

export interface Answered {
  readonly status: number;
  readonly text: string;
  readonly request: string;
  readonly proof: string;
}

export const access = async (its: Access): Promise<Answered> => {
  const { url, headers, request, proof } = await makeAccess(its);
  const answer = await fetch(url, { headers });
  return { status: answer.status, text: await answer.text(), request, proof };
};

export interface Journalled {
  readonly open: UsageOpen;
  readonly close: UsageClose | undefined;
}

/** What stands in a journal of a connector, also while it runs, by request and part. */
export const journalOf = async (
  { config }: Pick<ConnectorBench, 'config'>,
  name: string,
): Promise<Map<string, Journalled>> => {
  const entries = new Map<string, Journalled>();
  const folder = `${config.STEKKER_JOURNAL_FOLDER ?? `${config.STEKKER_DATA}-journal`}/${name}`;
  await readSegments({
    files: nodeFiles,
    folder,
    from: undefined,
    visit: (text) => {
      const entry = usageEntry.parse(JSON.parse(text));
      const key = `${entry.request} ${entry.part}`;
      const known = entries.get(key);
      if (entry.t === 'open') entries.set(key, { open: entry, close: undefined });
      else if (known !== undefined && known.close === undefined) entries.set(key, { ...known, close: entry });
    },
  });
  return entries;
};
