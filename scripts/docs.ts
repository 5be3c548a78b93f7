import { writeFileSync } from 'node:fs';
import { helpOf } from '../bin/command.ts';
import { loadCommands } from '../bin/stekker.ts';
import { brokerSettings } from '../broker/config.ts';
import { connectorSettings } from '../connector/config.ts';
import { errorTable } from '../contracts/errors.ts';
import { describeSettings } from '../kernel/settings.ts';

const commands = await loadCommands();

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
  'docs/guides/command-line.md': `# The command line

One program, \`stekker\`: it starts the services, speaks to their operator's API, and verifies receipts without any of them. This
page is generated from the commands themselves (\`npm run docs\`).

| command | what it does |
|---|---|
${commands.map(({ name, summary }) => `| [\`${name}\`](#${name}) | ${summary} |`).join('\n')}

**Exit codes.**

| code | meaning |
|---|---|
| 0 | Done. |
| 1 | Failed: refused, not found, not there yet, not reachable. \`verify\`: a receipt does not hold. |
| 2 | The command line or a setting is wrong, or a file cannot be evaluated; nothing was done. |
| 3 | \`verify\` only: all holds, but nothing in the trust file vouches for it. |
| 4 | \`verify\` only: valid, with withheld parts. |

**Output.** Results go to standard output, everything else to standard error. With \`--json\` the result is one JSON value, and a
fault is \`{"error":{"code","title","detail","faults"}}\` on standard error; codes are those of [errors.md](../errors.md).

**Which service.** Commands speak to \`STEKKER_MANAGEMENT_URL\`, or to this machine at \`STEKKER_MANAGEMENT_PORT\` (8082 for a
connector, 8091 for a broker or accreditor), with the token in \`STEKKER_MANAGEMENT_TOKEN\` or the file that
\`STEKKER_MANAGEMENT_TOKEN_FILE\` names. \`fetch\` also needs the key of an application: \`STEKKER_APPLICATION_KEY\`,
\`STEKKER_APPLICATION_KEY_FILE\` or \`--key-file\`. Keys and tokens are never arguments, because other users
of a machine can see those; a join code works once, and for one DID alone.

${commands.map((command) => `## ${command.name}\n\n\`\`\`text\n${helpOf(command)}\n\`\`\``).join('\n\n')}
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
