import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import {
  type AgreementPayload,
  agreementDigestOf,
  agreementEventText,
  agreementText,
} from '../../contracts/ledger/agreement.ts';
import { assembleJws, type GeneralJws, type JwsType, jwsText } from '../../contracts/ledger/jws.ts';
import { formatTime } from '../../contracts/time.ts';
import { makeLeafKey, signAssertion, signWithLeafKey } from '../../kernel/assertions.ts';
import type { TokenService } from '../../kernel/auth.ts';
import { systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import { systemRandom } from '../../kernel/random.ts';
import type { BrokerBench, Operated } from './broker-bench.ts';
import { joinBody } from './holder.ts';
import { agreementBody } from './log-parties.ts';

/** Members of a real broker: how they join, agree, and end agreements, with keys and documents of their own. */

export interface Party {
  readonly did: Did;
  readonly keys: ParticipantKeys;
  readonly tokens: TokenService;
}

type Hub = Pick<BrokerBench, 'did' | 'origin'>;

/** Posts as somebody, with a fresh token. */
export const postAs = (party: Party, hub: Hub, path: string, body: unknown): Promise<Response> =>
  fetch(`${hub.origin}${path}`, {
    method: 'POST',
    headers: {
      authorization: party.tokens.tokenFor({ audience: hub.did }),
      'content-type': 'application/json',
    },
    body: JSON.stringify(body),
  });

const documentOf = async ({ did }: Party): Promise<string> => {
  const origin = `http://${did.slice('did:web:'.length).replace('%3A', ':')}`;
  return await (await fetch(`${origin}/.well-known/did.json`)).text();
};

/** An invitation's code. */
export const inviteTo = async (
  broker: Pick<Operated, 'operate'>,
  did: Did,
  name = 'Waterschap',
  roles: readonly string[] = ['participant'],
): Promise<string> => String((await broker.operate('POST', '/v1/invitations', { did, name, roles })).body.joinCode);

/** What a party sends to join with a code. */
export const joiningOf = async (party: Party, code: string): Promise<Json> =>
  joinBody({ keys: party.keys, document: await documentOf(party) }, code);

/** Invites a party and lets it join. */
export const joinHub = async (hub: Hub, broker: Pick<Operated, 'operate'>, party: Party, name?: string) => {
  const answer = await postAs(
    party,
    hub,
    '/log/entries',
    await joiningOf(party, await inviteTo(broker, party.did, name)),
  );
  if (answer.status !== 201) throw new Error(`${party.did} did not join: ${await answer.text()}`);
};

const signedByAll = (text: string, typ: JwsType, parties: readonly Party[]): GeneralJws =>
  assembleJws(
    text,
    parties.map(({ keys }) => signAssertion(keys.assertion, text, typ)),
  );

type LeafKey = ReturnType<typeof makeLeafKey>;

const registration = (kind: string, artifact: GeneralJws, leaf: LeafKey) => {
  const signature = signWithLeafKey(leaf.privateJwk, utf8(jwsText(artifact)));
  if (signature === undefined) throw new Error('no leaf key');
  return { kind, artifact, ...signature };
};

const salt = (): string => toBase64Url(systemRandom.bytes(32));

/** An agreement of two members, as it is registered. */
export const agreementOf = (name: string, provider: Party, consumer: Party) => {
  const leaf = makeLeafKey();
  const { payload: template } = agreementBody({ name });
  const payload: AgreementPayload = {
    ...template,
    agreement: {
      ...template.agreement,
      assigner: provider.did,
      assignee: consumer.did,
      timestamp: formatTime(systemClock.now() - 1_000),
    },
    provider: provider.did,
    consumer: consumer.did,
    leafKey: leaf.id,
    salt: salt(),
  };
  const text = agreementText(payload);
  const artifact = signedByAll(text, 'stekker-agreement+jws', [provider, consumer]);
  return { body: registration('agreement', artifact, leaf), digest: agreementDigestOf(nodeCrypto, text) };
};

/** The end of an agreement, or that it is void, as it is registered. */
export const agreementEventOf = (agreementDigest: string, event: 'void' | 'end', signers: readonly Party[]) => {
  const leaf = makeLeafKey();
  const text = agreementEventText({
    v: 1,
    type: 'agreement-event',
    agreementDigest,
    event,
    effectiveAt: formatTime(systemClock.now()),
    reason: 'a test',
    leafKey: leaf.id,
    salt: salt(),
  });
  return registration('agreement-event', signedByAll(text, 'stekker-agreement-event+jws', signers), leaf);
};
