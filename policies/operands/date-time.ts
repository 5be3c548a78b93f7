import { parsePeerTime } from '../../contracts/time.ts';
import { numberOperand } from './operand.ts';

const date = /^\d{4}-\d{2}-\d{2}$/;

/** An instant with a zone; a bare date of a peer is midnight UTC at its start, as XPath casts it (odrl §3.9). */
export const parseInstant = (text: string): number | undefined =>
  parsePeerTime(date.test(text) ? `${text}T00:00:00Z` : text);

/** When the data is used. */
export const dateTime = numberOperand(
  {
    iri: 'http://www.w3.org/ns/odrl/2/dateTime',
    fact: 'now',
    from: 'catalog',
    label: { nl: 'het tijdstip', en: 'the time' },
  },
  (facts) => facts.now,
  parseInstant,
);
