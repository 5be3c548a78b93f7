import type { Kysely } from 'kysely';
import { type CatalogTables, standing } from '../../connector/adapters/sql/catalog-tables.ts';
import { canonicalize } from '../../contracts/json.ts';

/** A catalog of many datasets with an offer each, put in by rows: the rows that the store itself would write. */
export interface ManyOffers {
  readonly participant: string;
  readonly count: number;
  /** The only one who sees them. */
  readonly reader?: string;
  /** The only one who does not. */
  readonly without?: string;
}

const pieceSize = 500;
const plan = canonicalize({
  v: 1,
  type: 'price-plan',
  currency: 'EUR',
  scale: '2',
  lines: [],
  notice: '',
  free: true,
});

const rulesOf = ({ reader, without }: ManyOffers): string => {
  const name = (operator: string, rightOperand: string) => [{ leftOperand: 'recipient', operator, rightOperand }];
  const constraint = reader === undefined ? undefined : name('eq', reader);
  const prohibition = without === undefined ? undefined : [{ action: 'use', constraint: name('eq', without) }];
  return canonicalize({
    permission: [{ action: 'use', ...(constraint === undefined ? {} : { constraint }) }],
    ...(prohibition === undefined ? {} : { prohibition }),
  });
};

export const fillCatalog = async (db: Kysely<CatalogTables>, its: ManyOffers): Promise<void> => {
  const { participant, count } = its;
  const rules = rulesOf(its);
  const assurance = 'cosigned' as const;
  const upstream = { kind: 'file', path: '/data/x' };
  const ids = Array.from({ length: count }, (_, index) => String(index).padStart(7, '0'));
  for (let begin = 0; begin < count; begin += pieceSize) {
    const piece = ids.slice(begin, begin + pieceSize);
    const body = (id: string) =>
      canonicalize({ title: `Dataset ${id}`, description: '', keywords: ['rain'], extra: {}, upstream });
    await db.transaction().execute(async (transaction) => {
      const assets = piece.map((id) => ({ participant, id: `urn:asset:${id}`, body: body(id), created_at: 1 }));
      await transaction.insertInto('asset').values(assets).execute();
      const offers = piece.map((id, place) => ({
        participant,
        id: `urn:offer:${id}`,
        asset: `urn:asset:${id}`,
        rules,
        assurance,
        price: '',
        silence: 'strict',
        created_at: 1,
        withdrawn_at: null,
        created_seq: begin + place + 1,
        withdrawn_seq: standing,
        turns_at: null,
      }));
      await transaction.insertInto('offer').values(offers).execute();
      const plans = piece.map((id) => ({ participant, digest: `plan ${id}`, plan }));
      await transaction.insertInto('price_plan').values(plans).execute();
      const showing = piece.map((id) => ({
        participant,
        reader: its.reader ?? '',
        assurance,
        asset: `urn:asset:${id}`,
        offer: `urn:offer:${id}`,
      }));
      await transaction.insertInto('catalog_showing').values(showing).execute();
      const changes = piece.map((id, place) => ({
        participant,
        seq: begin + place + 1,
        dataset: `urn:asset:${id}`,
        was_at: 1,
        at: 1,
      }));
      await transaction.insertInto('catalog_change').values(changes).execute();
    });
  }
  await db.insertInto('catalog_head').values({ participant, head: count, forgotten: 0 }).execute();
};
