import { fromBase64, orNothing } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import { readBrokerInfo } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import { canonicalize } from '../../contracts/json.ts';
import { bad, type Checked, good, isP256Spki } from '../../contracts/ledger/forms.ts';
import { type Policy, readPolicy, readVerifierKey, type VerifierKey } from '../../contracts/ledger/note.ts';
import type { TrustedLog } from '../../contracts/ledger/receipt.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { RaiseAlarm } from './alarms.ts';
import type { LogPinStore, LogReader, PinnedLog } from './ports.ts';

/**
 * The broker's log as it was named at first contact. From then on its keys and policy are fixed here: a broker that names
 * others later raises an alarm and changes nothing.
 */

export interface KnownLog {
  readonly broker: Did;
  readonly origin: string;
  /** Where checkpoint, tiles and artifacts are. */
  readonly url: string;
  readonly key: VerifierKey;
  readonly policy: Policy;
  /** SPKI */
  readonly registryKey: Uint8Array;
  /** The same as it stands in a trust file. */
  readonly trusted: TrustedLog;
}

export interface LogIdentity {
  /** @throws AppError `fetch-failed`, `log-not-believed`. */
  readonly known: () => Promise<KnownLog>;
  /** Compares what the broker says now with what is fixed. Never throws for a broker that does not answer. */
  readonly compare: () => Promise<void>;
}

export interface LogIdentityOptions {
  /** Origin of the broker, as configured. */
  readonly brokerUrl: string;
  readonly reader: LogReader;
  readonly store: LogPinStore;
  readonly alarm: RaiseAlarm;
}

const toKnown = ({ broker, origin, url, vkey, registryKey: registry, policy: text }: PinnedLog): Checked<KnownLog> => {
  const key = readVerifierKey(nodeCrypto, vkey);
  if (!key.ok) return bad(`its key ${key.reason}`);
  if (key.value.name !== origin) return bad('its key has another name');
  const policy = readPolicy(nodeCrypto, text);
  if (!policy.ok) return bad(`its policy ${policy.reason}`);
  if (policy.value.log.text !== vkey) return bad('its policy names another key');
  const registryKey = orNothing(fromBase64(registry));
  if (!isP256Spki(registryKey)) return bad('its registry key is no P-256 key');
  const trusted = { vkey, registryKey: registry, policy: text };
  return good({ broker, origin, url, key: key.value, policy: policy.value, registryKey, trusted });
};

const notBelieved = (detail: string): AppError => new AppError('log-not-believed', { detail });

const readPinned = async (reader: LogReader): Promise<PinnedLog> => {
  const answer = await reader.info();
  if (answer === undefined) throw new AppError('fetch-failed', { detail: 'the broker says nothing of itself' });
  const info = readBrokerInfo(answer);
  if (!info.ok) throw notBelieved(`what the broker says of itself cannot be read: ${info.reason}`);
  const { origin, url, vkey, registryKey, policy } = info.value.log;
  return { broker: info.value.did as Did, origin, url, vkey, registryKey, policy };
};

export const createLogIdentity = ({ brokerUrl, reader, store, alarm }: LogIdentityOptions): LogIdentity => {
  let fixed: KnownLog | undefined;

  const find = async (): Promise<KnownLog> => {
    const kept = await store.pinned(brokerUrl);
    const offered = kept ?? (await readPinned(reader));
    const known = toKnown(offered);
    if (!known.ok) throw notBelieved(`the log of the broker: ${known.reason}`);
    if (kept !== undefined) return known.value;
    const stays = toKnown(await store.pin(brokerUrl, offered));
    return stays.ok ? stays.value : known.value;
  };

  const known = async (): Promise<KnownLog> => {
    fixed ??= await find();
    return fixed;
  };

  return {
    known,
    compare: async () => {
      const { broker, origin, url, trusted } = await known();
      const said = await readPinned(reader).catch(() => undefined); // its silence is told by whoever needs an answer
      const ours = { broker, origin, url, ...trusted };
      if (said === undefined || canonicalize({ ...said }) === canonicalize(ours)) return;
      await alarm({
        code: 'log-renamed',
        participant: null,
        detail: `the broker names another log, or other keys of it, than at first contact: ${said.vkey} at ${said.url}, registry key ${said.registryKey}`,
        evidence: { before: ours, now: { ...said } },
      });
    },
  };
};
