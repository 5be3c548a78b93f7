import { writeFileSync } from 'node:fs';
import { brokerSettings } from '../broker/config.ts';
import { connectorSettings } from '../connector/config.ts';
import { errorTable } from '../contracts/errors.ts';
import { describeSettings } from '../kernel/settings.ts';

/** The pages that are made from the code; a tidy test compares them with what is committed. */
export const generatedPages = (): Readonly<Record<string, string>> => ({
  'docs/configuration.md': `# Configuration

Both programs read their settings from the environment. A secret \`KEY\` may also come from the file that \`KEY_FILE\` names,
which is how containers hand them over. A wrong or unknown setting stops the start, and the message names the key, what is
wrong, and an example. This page is generated from the schemas (\`npm run docs\`).

## Connector

${describeSettings(connectorSettings)}

## Broker and accreditor

${describeSettings(brokerSettings)}
`,
  'docs/errors.md': `# Error codes

Every code that Stekker answers with, on any surface. DSP errors carry it in \`code\`, problem+json in \`type\`
(\`urn:stekker:1:error:<code>\`), OAuth in \`error\` (with underscores). This page is generated from \`contracts/errors.ts\`
(\`npm run docs\`).

| code | status | meaning |
|---|---|---|
${Object.entries(errorTable)
  .map(([code, row]) => `| \`${code}\` | ${row.status} | ${row.title} |`)
  .join('\n')}
`,
});

if (import.meta.main) {
  for (const [path, text] of Object.entries(generatedPages())) {
    writeFileSync(new URL(`../${path}`, import.meta.url), text);
  }
}
