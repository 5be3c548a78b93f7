import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Fails when a secret marker stands in the output of a run. Every secret that a test makes carries the marker,
 * so that one search over all output shows whether anything secret was printed (DESIGN §5.7).
 */
const marker = ['geheim', 'marker'].join('-');

const folder = process.argv[2];
if (folder === undefined) throw new Error('usage: find-secrets FOLDER');
const files = readdirSync(folder).filter((name) => name.endsWith('.txt'));
if (files.length === 0) throw new Error(`no output to search in ${folder}`);
const hits = files.filter((name) => readFileSync(join(folder, name), 'utf8').includes(marker));
process.stdout.write(`${files.length} outputs searched for secrets, ${hits.length} with a secret\n`);
for (const name of hits) process.stdout.write(`a secret was printed in stage ${name}\n`);
if (hits.length > 0) process.exitCode = 1;
