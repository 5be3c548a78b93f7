import type { Json } from '../contracts/json.ts';
import { didOf } from '../kernel/did.ts';
import { joinLog } from './accreditation/joining.ts';
import { createAccreditations } from './accreditation/service.ts';
import { createAccreditationGrants } from './adapters/grants/accreditation.ts';
import { createBrokerNotices, createLogRegistration } from './adapters/http/broker-calls.ts';
import { offerTopic, sqlAccreditationStore, sqlKeyEventStore } from './adapters/sql/accreditation-store.ts';
import { issuanceTopic, standingTopic } from './adapters/sql/credential-store.ts';
import { type Base, composeIssuer, issuerParts, type RoleParts } from './base.ts';
import { describeCredential } from './credentials/service.ts';
import { accreditationOperations, joinOperations } from './management/operations.ts';

/** The role `accreditor`: decisions on applications, and the credentials that say so. No log, no store, no stream. */

export const composeAccreditor = async (base: Base): Promise<RoleParts> => {
  const { config, db, did, keys, document, clock, random, log, wake, deliver } = base;
  const about = { did, origin: config.STEKKER_PUBLIC_URL };
  const accreditations = createAccreditations({
    accreditor: did,
    store: sqlAccreditationStore(db),
    offer: (holder, offer) => deliver(holder, '/offers', { body: offer, token: null }),
    describe: (id): Json => ({ ...describeCredential(about, 'ApplicationAccreditationCredential', { id }) }),
    clock,
    random,
    log,
    wake,
  });
  const issuer = composeIssuer(base, createAccreditationGrants(accreditations));
  const issuing = issuerParts(base, issuer);
  const url = config.STEKKER_BROKER_URL;
  const broker = url === undefined ? undefined : { did: didOf(url), url };
  const join = broker && {
    operations: joinOperations((code) =>
      joinLog(
        { keys, document, store: sqlKeyEventStore(db), register: createLogRegistration(base, broker), clock },
        code,
      ),
    ),
    handlers: { [standingTopic]: issuer.standingHandler(createBrokerNotices(base, broker)) },
  };
  return {
    info: undefined,
    extensions: [],
    health: () => ({ isWorking: true }),
    routes: [issuing.routes],
    operations: [...accreditationOperations(accreditations), ...issuing.operations, ...(join?.operations ?? [])],
    handlers: {
      [issuanceTopic]: issuer.issuanceHandler,
      [offerTopic]: accreditations.offerHandler,
      ...(join?.handlers ?? {}),
    },
    begin: () => [],
    tidy: issuer.tidy,
  };
};
