import { parsePeerTime } from '../../contracts/time.ts';
import type { Facts } from '../facts.ts';
import { comparisons, literalOf, type Operand, truthOf } from './operand.ts';

const unitsMs: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** An instant, or a time behind the agreement: `contractAgreement+30s`, in seconds, minutes, hours or days. */
export const parseLimit = (text: string): { readonly at: number } | { readonly after: number } | undefined => {
  const [, count, unit] = /^contractAgreement\+(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (count !== undefined && unit !== undefined) return { after: Number(count) * (unitsMs[unit] ?? 0) };
  const at = parsePeerTime(text);
  return at === undefined ? undefined : { at };
};

/** From when to when an agreement holds, as connectors of the Eclipse Dataspace Components write it (edc-interop §5). */
export const inForceDate: Operand = {
  iri: 'https://w3id.org/edc/v0.0.1/ns/inForceDate',
  fact: 'agreedAt',
  operators: ['lt', 'lteq', 'gt', 'gteq'],
  from: 'token',
  label: { nl: 'de looptijd van de overeenkomst', en: 'the term of the agreement' },
  compile: (operator, right) => {
    const limit = parseLimit(literalOf(right)?.text ?? '');
    const compare = comparisons[operator];
    if (limit === undefined || compare === undefined) return { fault: 'has a value that cannot be read' };
    const instantOf = ({ agreedAt }: Facts): number | undefined => {
      if ('at' in limit) return limit.at;
      return agreedAt === undefined ? undefined : agreedAt + limit.after;
    };
    return {
      range: { kind: 'open' },
      test: (facts) => {
        const instant = instantOf(facts);
        if (facts.now === undefined || instant === undefined) return 'unknown';
        return truthOf(compare(facts.now, instant));
      },
    };
  },
};
