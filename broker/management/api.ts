import type { OpenAPIHono, z } from '@hono/zod-openapi';
import type { OperatorRules } from '../../kernel/http/operator.ts';
import {
  addMetricsRoute,
  createOperatorApi,
  type Endpoint,
  finishOperatorApi,
  type Input,
  type OperatorApi,
} from '../../kernel/http/operator-api.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Metrics } from '../../kernel/metrics.ts';

/** The operator's API of a broker or an accreditor: which operations it has depends on the role. */

type Nothing = Record<never, never>;
type None = z.ZodObject<Nothing>;

/** One endpoint with what it does, ready to be added to an API. */
export type Operation = (api: OperatorApi<Nothing>) => void;

export const operation =
  <
    Answer extends z.ZodType,
    Params extends z.ZodObject = None,
    Query extends z.ZodObject = None,
    Body extends z.ZodType = z.ZodUndefined,
  >(
    its: Endpoint<Params, Query, Body, Answer> & {
      readonly handle: (input: Input<Params, Query, Body>) => Promise<z.input<Answer>>;
    },
  ): Operation =>
  ({ endpoint }) =>
    endpoint(its, its.handle);

export interface ManagementOptions extends OperatorRules {
  readonly title: string;
  readonly operations: readonly Operation[];
  readonly log: Logger;
  readonly metrics: Metrics;
}

export const createManagementRoutes = ({ title, operations, metrics, ...rules }: ManagementOptions): OpenAPIHono => {
  const api = createOperatorApi({ ...rules, given: {} });
  for (const add of operations) add(api);
  addMetricsRoute(api, metrics);
  finishOperatorApi(api, title);
  return api.app;
};
