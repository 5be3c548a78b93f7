import { pageOf, pageThrough } from '../../kernel/http/paging.ts';
import type { Api } from './api.ts';
import { byRequest, packedQuery, packedView, receiptQuery, receiptView, usageQuery, usageView } from './forms.ts';
import type { Receipts, Usage, UsageLine, Withholding } from './ports.ts';

/** What was used, and the proof of it. */

export interface EvidenceRoutesOptions {
  readonly usage: Usage;
  readonly receipts: Receipts;
}

const tag = 'evidence';

const showLine = ({ key: _key, units, ...line }: UsageLine) => ({ ...line, units: { ...units } });

const withholdingOf = (text: string | undefined): Withholding => ({
  context: text?.includes('context') === true,
  sums: text?.includes('sums') === true,
});

export const addEvidenceRoutes = ({ endpoint }: Api, { usage, receipts }: EvidenceRoutesOptions): void => {
  endpoint(
    {
      method: 'get',
      path: '/v1/usage',
      id: 'listUsage',
      tag,
      summary: 'Who used what, for what, and for how much: a line for each agreement, application and purpose.',
      query: usageQuery,
      status: 200,
      answer: pageOf(usageView),
    },
    ({ participant, query: { agreement, ...query } }) =>
      pageThrough(
        query,
        (page) => usage.lines(participant, { ...page, agreementId: agreement }),
        ({ key }) => key,
        showLine,
      ),
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/receipts/{request}',
      id: 'getReceipt',
      tag,
      summary: 'The receipt of one access, as a file that verifies offline.',
      params: byRequest,
      query: receiptQuery,
      status: 200,
      answer: receiptView,
    },
    async ({ participant, params, query }) => {
      const text = await receipts.one(participant, params.request, withholdingOf(query.withhold));
      return new Response(text, { headers: { 'content-type': 'application/json' } });
    },
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/receipts',
      id: 'packReceipts',
      tag,
      summary: 'All receipts of an agreement, packed: one file for each statement.',
      query: packedQuery,
      status: 200,
      answer: packedView,
    },
    async ({ participant, query }) => ({
      items: [...(await receipts.packed(participant, query.agreement, withholdingOf(query.withhold)))],
    }),
  );
};
