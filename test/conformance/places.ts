import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../support/holder.ts';

/** The project's own settings for a conformance kit, at ports that nobody uses. */

const file = join(import.meta.dirname, 'dsp.properties');

/** Of the file: the kit, the connector, the triggers. */
const ports = ['8083', '8282', '8283'] as const;

/** The text of a properties file in which every port is a free one. */
export const settingsAtFreePorts = async (): Promise<string> => {
  let text = readFileSync(file, 'utf8').replace(/^#.*$/gm, '');
  for (const port of ports) text = text.replaceAll(port, String(await freePort()));
  return text;
};
