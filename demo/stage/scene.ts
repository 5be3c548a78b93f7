import type { StageOptions } from './chain.ts';
import { readSecret } from './folder.ts';
import { askJson } from './http.ts';
import type { Report } from './report.ts';
import type { Service, Stack } from './stack.ts';

/** What every act of the story plays with. */
export interface Scene extends Omit<StageOptions, 'own'> {
  readonly report: Report;
  readonly stack: Stack;
}

/** Emergency management: what the three sources may be used for here. */
export const purpose = 'urn:stekker:1:purpose:crisis';

/** The operator's API of a service, for what the command line has no word for. */
export const operate = (service: Service, path: string, { signal }: Pick<Scene, 'signal'>, body?: unknown) =>
  askJson(`${service.managementUrl}${path}`, {
    signal,
    headers: { authorization: `Bearer ${readSecret(service.tokenFile)}` },
    ...(body === undefined ? {} : { body }),
  });
