import { z } from 'zod';
import { applicationId, applicationVersion, programDigest } from '../application/main.ts';
import { eventually } from './processes.ts';
import { operate, purpose, type Scene } from './scene.ts';
import type { Service } from './stack.ts';

/** Everybody joins, and the application is accredited: identity and trust before any data. */

const invited = z.looseObject({ joinCode: z.string() });
const joined = z.looseObject({});
const accredited = z.looseObject({ id: z.string(), validUntil: z.string() });
const held = z.looseObject({ items: z.array(z.looseObject({ type: z.string() })) });

const roleOf = ({ name }: Service): string => {
  if (name === 'accreditor') return 'accreditor';
  return name === 'runtime' ? 'consumer' : 'provider';
};

/** The broker's operator invites each of them; each joins with its own code, which works once. */
export const joinEverybody = async ({ folder, terminal, report, stack }: Scene): Promise<void> => {
  const { broker, accreditor, holders, runtime } = stack;
  const members: readonly Service[] = [accreditor, ...Object.values(holders), runtime];
  const invite = async (service: Service) => {
    const { did, title, name } = service;
    const args = ['invite', did, '--name', title, '--role', roleOf(service)];
    const { joinCode } = await terminal.run(broker.operator, args, invited);
    folder.keepSecret(`${name}.join-code`, joinCode);
    return { service, joinCode };
  };
  const invitations = await Promise.all(members.map(invite));
  await Promise.all(
    invitations.map(({ service, joinCode }) => terminal.run(service.operator, ['join', joinCode], joined)),
  );
  report.say(`${members.length} participants have their keys in the broker's log; four of them hold a membership.`);
};

export const applicationName = `${applicationId}@${applicationVersion}`;
/** A version that nobody has judged. */
export const newerName = `${applicationId}@2.0.0`;

/** Files with the keys of the two versions at their own connector. */
export interface ApplicationKeys {
  readonly accredited: string;
  readonly newer: string;
}

const added = z.looseObject({ application: z.string() });

/** Version 1.0.0 is judged and accredited for crisis management; version 2.0.0 is only installed. */
export const accreditApplication = async (scene: Scene): Promise<ApplicationKeys> => {
  const { folder, terminal, report, stack, signal } = scene;
  const { accreditor, runtime } = stack;
  const args = ['accredit', applicationName, '--holder', runtime.did, '--digest', `sha256:${programDigest()}`];
  const judged = ['--purpose', purpose, '--criteria', 'urn:stekker:1:criteria:voorbeeld@2026', '--level', 'basic'];
  const { validUntil } = await terminal.run(accreditor.operator, [...args, ...judged], accredited);
  const keys = { accredited: folder.at('secrets', 'evacuatie-1.key'), newer: folder.at('secrets', 'evacuatie-2.key') };
  await Promise.all([
    terminal.run(runtime.operator, ['application', 'add', applicationName, '--key-file', keys.accredited], added),
    terminal.run(runtime.operator, ['application', 'add', newerName, '--key-file', keys.newer], added),
  ]);
  await eventually(
    async () => {
      const { items } = held.parse(await operate(runtime, '/v1/credentials', scene));
      return items.find(({ type }) => type === 'ApplicationAccreditationCredential');
    },
    { what: 'the accreditation reaches its holder', signal },
  );
  report.say(`Version 1.0.0 is accredited for ${purpose} until ${validUntil.slice(0, 10)}; version 2.0.0 is not.`);
  return keys;
};
