import type { Compilable, CompiledQuery, Kysely, QueryResult } from 'kysely';
import { isPostgres } from './dialect.ts';

/** Stands in a statement where a value will be. */
class Parameter {
  readonly name: PropertyKey;
  constructor(name: PropertyKey) {
    this.name = name;
  }
}

/** Names a value that is given with each execution. */
export type Given<Values> = <Name extends keyof Values>(name: Name) => Values[Name];

/**
 * A statement whose text is made once for each dialect, for those that every message needs: building one costs Kysely more
 * than SQLite takes to run it. What depends on the values themselves (lists, optional parts) cannot be written so.
 *
 * @returns how to run it, in a transaction or outside.
 */
export const prepared = <Tables, Values, Row>(
  build: (db: Kysely<Tables>, given: Given<Values>) => Compilable<Row>,
): ((db: Kysely<Tables>, values: Values) => Promise<QueryResult<Row>>) => {
  const made = new Map<boolean, CompiledQuery<Row>>();
  // Kysely passes values on as they are, whatever they are: each comes back in its place among the parameters.
  const given: Given<Values> = (name) => new Parameter(name) as unknown as Values[typeof name];
  return (db, values) => {
    const dialect = isPostgres(db);
    const query = made.get(dialect) ?? build(db, given).compile();
    made.set(dialect, query);
    const parameters = query.parameters.map((value) =>
      value instanceof Parameter ? values[value.name as keyof Values] : value,
    );
    return db.executeQuery<Row>({ ...query, parameters });
  };
};

/** Columns that are each given by their own name; a row lacks none of those that its table asks for, or it does not compile. */
export const columns = <Values, Name extends keyof Values>(
  given: Given<Values>,
  names: readonly Name[],
): Pick<Values, Name> => Object.fromEntries(names.map((name) => [name, given(name)])) as Pick<Values, Name>;

/** Whether a statement changed exactly one row. */
export const isOneRow = ({ numAffectedRows }: Pick<QueryResult<unknown>, 'numAffectedRows'>): boolean =>
  numAffectedRows === 1n;
