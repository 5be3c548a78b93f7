import type { ParticipantId } from '../../contracts/ids.ts';
import type { OperatorRules } from '../../kernel/http/operator.ts';
import { createOperatorApi, type OperatorApi } from '../../kernel/http/operator-api.ts';
import type { ProblemStyle } from '../../kernel/http/problem.ts';
import type { Logger } from '../../kernel/log.ts';

/** The operator's API of one participant of this connector. */

export interface ApiOptions extends OperatorRules {
  readonly participant: ParticipantId;
  readonly log: Logger;
}

export type Api = OperatorApi<{ readonly participant: ParticipantId }>;

/** On this surface an operator is told which state stands in the way (409), and what did not answer. */
const style: ProblemStyle = {
  status: { 'illegal-transition': 409, 'agreement-ended': 409, 'agreement-refused': 409, 'offer-refused': 409 },
  shown: ['fetch-failed', 'upstream-failed', 'disk-full', 'database-unavailable'],
};

/** An empty API, protected; endpoints are added to it. */
export const createApi = ({ participant, log, token, hosts, rate }: ApiOptions): Api =>
  createOperatorApi({ given: { participant }, style, log, token, hosts, rate });
