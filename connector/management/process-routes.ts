import { AppError } from '../../contracts/errors.ts';
import { pageOf, pageQuery, pageThrough } from '../../kernel/http/paging.ts';
import type { Acquiring } from './acquiring.ts';
import type { Api } from './api.ts';
import {
  acquiredView,
  agreementView,
  byId,
  endOfAgreement,
  negotiationDecision,
  negotiationView,
  newAcquisition,
  newAmendment,
  newNegotiation,
  newTransfer,
  transferDecision,
  transferView,
} from './forms.ts';
import type { AgreementEnds, Negotiations, PushedContents, Transfers } from './ports.ts';
import { showAgreement, showNegotiation, showTransfer } from './views.ts';

/** Negotiations, agreements and transfers of either role, and acquisitions, which join them. */

export interface ProcessRoutesOptions {
  readonly negotiations: Negotiations;
  readonly transfers: Transfers;
  readonly ends: AgreementEnds;
  readonly acquiring: Acquiring;
  readonly pushed: PushedContents;
}

const tag = 'agreements';

const must = <Value>(value: Value | undefined): Value => {
  if (value === undefined) throw new AppError('not-found');
  return value;
};

const negotiationRoutes = ({ endpoint }: Api, { negotiations, acquiring }: ProcessRoutesOptions): void => {
  endpoint(
    {
      method: 'get',
      path: '/v1/negotiations',
      id: 'listNegotiations',
      tag,
      summary: 'Negotiations, in the order in which they began.',
      query: pageQuery,
      status: 200,
      answer: pageOf(negotiationView),
    },
    ({ participant, query }) =>
      pageThrough(
        query,
        (page) => negotiations.list(participant, page),
        ({ pid }) => pid,
        showNegotiation,
      ),
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/negotiations',
      id: 'beginNegotiation',
      tag,
      summary: 'Ask a provider for an offer of its catalog, or make a consumer an offer of our own.',
      body: newNegotiation,
      status: 201,
      answer: negotiationView,
    },
    async ({ participant, body }) => {
      const { provider, consumer, dataset, offer } = body;
      if (consumer !== undefined)
        return showNegotiation(await acquiring.invite(participant, { consumer, dataset, offer: String(offer) }));
      const wanted =
        typeof offer === 'object' ? { ...offer, price: offer.priceDigest ?? '', plan: offer.price } : offer;
      return showNegotiation(await acquiring.begin(participant, { ...body, provider: must(provider), offer: wanted }));
    },
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/negotiations/{id}',
      id: 'getNegotiation',
      tag,
      summary: 'One negotiation.',
      params: byId,
      status: 200,
      answer: negotiationView,
    },
    async ({ participant, params }) => showNegotiation(await negotiations.find(participant, params.id)),
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/negotiations/{id}/decisions',
      id: 'decideNegotiation',
      tag,
      summary: 'Decide what a negotiation does next; 409 when its state does not allow it.',
      params: byId,
      body: negotiationDecision,
      status: 202,
      answer: negotiationView,
    },
    async ({ participant, params, body }) => showNegotiation(await negotiations.decide(participant, params.id, body)),
  );
};

const transferRoutes = ({ endpoint }: Api, { transfers, acquiring, pushed }: ProcessRoutesOptions): void => {
  endpoint(
    {
      method: 'get',
      path: '/v1/transfers',
      id: 'listTransfers',
      tag,
      summary: 'Transfers, in the order in which they began.',
      query: pageQuery,
      status: 200,
      answer: pageOf(transferView),
    },
    ({ participant, query }) =>
      pageThrough(
        query,
        (page) => transfers.list(participant, page),
        ({ pid }) => pid,
        showTransfer,
      ),
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/transfers',
      id: 'beginTransfer',
      tag,
      summary: 'Ask for a transfer under an agreement that is in force.',
      body: newTransfer,
      status: 201,
      answer: transferView,
    },
    async ({ participant, body }) =>
      showTransfer(await acquiring.beginTransfer(participant, body.agreementId, body.push)),
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/transfers/{id}',
      id: 'getTransfer',
      tag,
      summary: 'One transfer.',
      params: byId,
      status: 200,
      answer: transferView,
    },
    async ({ participant, params }) => showTransfer(await transfers.find(participant, params.id)),
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/transfers/{id}/decisions',
      id: 'decideTransfer',
      tag,
      summary: 'Decide what a transfer does next; 409 when its state does not allow it.',
      params: byId,
      body: transferDecision,
      status: 202,
      answer: transferView,
    },
    async ({ participant, params, body }) => showTransfer(await transfers.decide(participant, params.id, body)),
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/transfers/{id}/content',
      id: 'getTransferContent',
      tag,
      summary: 'What a provider pushed to us in this transfer, as it came.',
      params: byId,
      status: 200,
      mediaType: 'application/octet-stream',
    },
    async ({ participant, params }) => {
      const { data } = await transfers.find(participant, params.id);
      const received = must(data.inbox?.received ?? undefined);
      const { bytes, body } = await pushed.read(params.id);
      const type = received.mediaType === '' ? 'application/octet-stream' : received.mediaType;
      // Somebody else's content: never shown as a page of this origin.
      const headers = { 'content-type': type, 'content-length': String(bytes), 'content-disposition': 'attachment' };
      return new Response(ReadableStream.from(body), { headers });
    },
  );
};

const agreementRoutes = ({ endpoint }: Api, { negotiations, ends, acquiring }: ProcessRoutesOptions): void => {
  endpoint(
    {
      method: 'get',
      path: '/v1/agreements',
      id: 'listAgreements',
      tag,
      summary: 'Agreements of either role; a page may hold fewer than its limit.',
      query: pageQuery,
      status: 200,
      answer: pageOf(agreementView),
    },
    ({ participant, query }) =>
      pageThrough(
        query,
        (page) => negotiations.list(participant, page),
        ({ pid }) => pid,
        showAgreement,
      ),
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/agreements/{id}',
      id: 'getAgreement',
      tag,
      summary: 'One agreement.',
      params: byId,
      status: 200,
      answer: agreementView,
    },
    async ({ participant, params }) => {
      const row = await negotiations.findByAgreement(participant, params.id);
      return must(row === undefined ? undefined : showAgreement(row));
    },
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/agreements/{id}/end',
      id: 'endAgreement',
      tag,
      summary: 'End an agreement at once: nothing is served or fetched under it any more.',
      params: byId,
      body: endOfAgreement,
      status: 200,
      answer: agreementView,
    },
    async ({ participant, params, body }) => {
      if ((await negotiations.findByAgreement(participant, params.id)) === undefined) throw new AppError('not-found');
      return must(showAgreement(await ends.end(participant, params.id, body.reason)));
    },
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/agreements/{id}/amendment',
      id: 'amendAgreement',
      tag,
      summary: 'Negotiate an agreement that takes the place of this one, which stays in force until it does.',
      params: byId,
      body: newAmendment,
      status: 201,
      answer: negotiationView,
    },
    async ({ participant, params, body }) => showNegotiation(await acquiring.amend(participant, params.id, body)),
  );
};

export const addProcessRoutes = (api: Api, options: ProcessRoutesOptions): void => {
  negotiationRoutes(api, options);
  agreementRoutes(api, options);
  transferRoutes(api, options);
  api.endpoint(
    {
      method: 'post',
      path: '/v1/acquisitions',
      id: 'acquire',
      tag,
      summary: 'Get a dataset: use the agreement in force or negotiate one, and have a transfer started.',
      body: newAcquisition,
      status: 200,
      answer: acquiredView,
    },
    ({ participant, body }) => options.acquiring.acquire(participant, body),
  );
};
