/**
 * What a run must be told: the properties of the official kit, in the same file format and with the same keys. A key that
 * is missing stops the run, because an id that nobody chose tests nothing.
 */

export interface KitSettings {
  /** Where the kit listens. */
  readonly host: string;
  readonly port: number;
  /** What the connector is told as its counterparty's address; no trailing slash. */
  readonly callbackAddress: string;
  /** The participant id of the connector under test. */
  readonly agentId: string;
  /** `<base>` and `<root>` of the connector; no trailing slash. */
  readonly url: string;
  readonly baseUrl: string;
  /** One value for every request; empty sends none. */
  readonly authorization: string;
  readonly negotiationTrigger: string;
  readonly transferTrigger: string;
  /** How long a message or a state is waited for. */
  readonly waitMs: number;
  /** How long nothing may happen where nothing should. */
  readonly quietMs: number;
  /** Contexts beside the protocol's own that messages of the connector may name. */
  readonly contexts: readonly string[];
  /** The id of a case, such as `idOf('CN:01-01', 'DATASETID')`. */
  readonly idOf: (caseName: string, field: IdField) => string;
}

export type IdField = 'DATASETID' | 'OFFERID' | 'AGREEMENTID' | 'FORMAT';

/** Settings with which a run would test nothing, or something else than was meant. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
}

const escapes: Readonly<Record<string, string>> = { t: '\t', n: '\n', r: '\r', f: '\f' };

const unescaped = (text: string): string =>
  text.replace(/\\(?:u([0-9a-fA-F]{4})|(.))/g, (_whole, code?: string, plain?: string) =>
    code === undefined ? (escapes[plain ?? ''] ?? plain ?? '') : String.fromCharCode(Number.parseInt(code, 16)),
  );

/** Reads Java's `.properties`: comments, `=` or `:`, lines that go on behind a backslash, escapes. */
export const parseProperties = (text: string): ReadonlyMap<string, string> => {
  const lines: string[] = [];
  let goesOn = false;
  for (const raw of text.split(/\r\n|[\r\n]/)) {
    const line = raw.trimStart();
    if (!goesOn && (line === '' || /^[#!]/.test(line))) continue;
    lines.push(goesOn ? `${lines.pop() ?? ''}${line}` : line);
    goesOn = /(?:^|[^\\])(?:\\\\)*\\$/.test(line);
    if (goesOn) lines.push((lines.pop() ?? '').slice(0, -1));
  }
  const entries = lines.map((line): readonly [string, string] => {
    const [, key = '', value = ''] = /^((?:\\.|[^\\=:\s])*)\s*[=:]?\s*(.*)$/.exec(line) ?? [];
    return [unescaped(key), unescaped(value).trimEnd()];
  });
  return new Map(entries);
};

const fieldsOf: Readonly<Record<string, readonly IdField[]>> = {
  CAT: ['DATASETID'],
  CN: ['DATASETID', 'OFFERID'],
  CN_C: ['DATASETID'],
  TP: ['AGREEMENTID', 'FORMAT'],
  TP_C: ['AGREEMENTID', 'FORMAT'],
};

/** `CN:01-02` and `OFFERID` → `CN_01_02_OFFERID`. */
const keyOf = (caseName: string, field: IdField): string => `${caseName.replace(/[:-]/g, '_')}_${field}`;

const tck = 'dataspacetck';
const connector = `${tck}.dsp.connector`;
const needed = [
  `${connector}.agent.id`,
  `${connector}.http.url`,
  `${connector}.http.base.url`,
  `${connector}.negotiation.initiate.url`,
  `${connector}.transfer.initiate.url`,
];

const defaultQuietMs = 300;
/** The official kit's unit; a value as large as this was meant as milliseconds. */
const longestWaitSeconds = 600;

/**
 * Settings from the text of a properties file, for these cases.
 *
 * @throws SettingsError naming every key that is missing, or what is wrong.
 */
export const readSettings = (text: string, caseNames: readonly string[]): KitSettings => {
  const properties = parseProperties(text);
  const get = (key: string, otherwise = ''): string => properties.get(key) || otherwise;
  const ids = caseNames.flatMap((name) =>
    (fieldsOf[name.split(':')[0] ?? ''] ?? []).map((field) => keyOf(name, field)),
  );
  const missing = [...needed, ...ids].filter((key) => get(key) === '');
  if (missing.length > 0) throw new SettingsError(`these settings are missing: ${missing.join(' ')}`);
  if (get(`${tck}.dsp.local.connector`) === 'true')
    throw new SettingsError(`${tck}.dsp.local.connector=true asks a kit to test itself`);
  const waitSeconds = Number(get(`${tck}.dsp.default.wait`, '15'));
  if (!(waitSeconds > 0 && waitSeconds <= longestWaitSeconds))
    throw new SettingsError(`${tck}.dsp.default.wait is in seconds, and at most ${longestWaitSeconds}`);
  const port = Number(get(`${tck}.port`, '8083'));
  const address = (key: string, otherwise?: string): string => get(key, otherwise).replace(/\/+$/, '');
  return {
    host: get(`${tck}.host`, '0.0.0.0'),
    port,
    callbackAddress: address(`${tck}.callback.address`, `http://localhost:${port}`),
    agentId: get(`${connector}.agent.id`),
    url: address(`${connector}.http.url`),
    baseUrl: address(`${connector}.http.base.url`),
    authorization: get(`${connector}.http.headers.authorization`),
    negotiationTrigger: get(`${connector}.negotiation.initiate.url`),
    transferTrigger: get(`${connector}.transfer.initiate.url`),
    waitMs: waitSeconds * 1_000,
    quietMs: defaultQuietMs,
    contexts: [...properties]
      .filter(([key]) => /^dataspacetck\.dsp\.jsonld\.context\..+\.uri$/.test(key))
      .map(([, uri]) => uri),
    idOf: (caseName, field) => get(keyOf(caseName, field)),
  };
};
