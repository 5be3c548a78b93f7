import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { maxPageRecords, type StatementDraft } from '../../contracts/ledger/draft.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { Logger } from '../../kernel/log.ts';
import type { PeerAnswer, PeerTransport } from '../exchange/ports.ts';
import type { MeteredAgreement, StatementBroker, StatementPeers } from './ports.ts';

/** What we say to the counterparty and to the broker about statements (wire §6). No answer is undefined: it is asked again. */

export interface PeerCalls {
  readonly draft: (info: MeteredAgreement, digest: string, draft: StatementDraft) => Promise<PeerAnswer | undefined>;
  readonly signed: (info: MeteredAgreement, artifact: GeneralJws) => Promise<PeerAnswer | undefined>;
  readonly request: (info: MeteredAgreement) => Promise<PeerAnswer | undefined>;
  readonly held: (info: MeteredAgreement, seq: 'newest' | number) => Promise<PeerAnswer | undefined>;
  /** `none` without a broker. */
  readonly logged: (info: MeteredAgreement) => Promise<PeerAnswer | 'none' | undefined>;
}

export interface PeerCallOptions {
  readonly transport: PeerTransport;
  readonly peers: StatementPeers;
  readonly broker: StatementBroker;
  readonly log: Logger;
}

export const counterpartyOf = ({ role, provider, consumer }: MeteredAgreement): Did =>
  role === 'provider' ? consumer : provider;

/** JSON as it travels: our own types hold nothing that JSON does not. */
const asJson = (value: unknown): Json => value as Json;

const pagesOf = ({ records, ...frame }: StatementDraft): { readonly head: Json; readonly lines: readonly Json[] }[] => {
  const pages = Math.ceil(records.length / maxPageRecords);
  return Array.from({ length: pages }, (_, index) => ({
    head: asJson({ ...frame, page: index + 1, pages }),
    lines: records.slice(index * maxPageRecords, (index + 1) * maxPageRecords).map(asJson),
  }));
};

export const createPeerCalls = ({ transport, peers, broker, log }: PeerCallOptions): PeerCalls => {
  const attempt = async (
    info: MeteredAgreement,
    call: (root: string) => Promise<PeerAnswer>,
  ): Promise<PeerAnswer | undefined> => {
    const peer = counterpartyOf(info);
    try {
      const root = await peers.root(info.participant, peer);
      return root === undefined ? undefined : await call(root);
    } catch (error) {
      log.info({ error, peer, agreement: info.agreement }, 'the counterparty did not answer about a statement');
      return undefined;
    }
  };
  const post = (info: MeteredAgreement, path: string, id: string, body: Json, lines?: readonly Json[]) =>
    attempt(info, (root) =>
      transport.post({
        participant: info.participant,
        peer: counterpartyOf(info),
        url: `${root}/${path}`,
        id,
        body,
        ...(lines === undefined ? {} : { lines }),
      }),
    );

  return {
    draft: async (info, digest, draft) => {
      if (draft.records.length <= maxPageRecords) return post(info, 'draft', digest, asJson(draft));
      let answer: PeerAnswer | undefined;
      for (const [index, { head, lines }] of pagesOf(draft).entries()) {
        answer = await post(info, 'draft', `${digest} ${index + 1}`, head, lines);
        if (answer === undefined || answer.status >= 300) return answer;
      }
      return answer;
    },
    signed: (info, artifact) => post(info, 'signed', `signed ${info.agreement}`, asJson(artifact)),
    request: (info) => post(info, 'request', `request ${info.agreement}`, { agreementDigest: info.agreement }),
    held: (info, seq) =>
      attempt(info, (root) =>
        transport.get({
          participant: info.participant,
          peer: counterpartyOf(info),
          url: `${root}/${info.agreement}/${seq}`,
        }),
      ),
    logged: async (info) => {
      try {
        const found = await broker.root();
        if (found === undefined) return 'none';
        const url = `${found.url}/${info.agreement}/newest`;
        return await transport.get({ participant: info.participant, peer: found.did, url });
      } catch (error) {
        log.info({ error, agreement: info.agreement }, 'the broker did not answer about a statement');
        return undefined;
      }
    },
  };
};
