// Wraps every guest that has a .wit as a component, with the component model's own
// tools, and calls it there. What the Go host takes for the canonical ABI must be
// it: wrapping fails if an export's type is wrong, and where a guest has vectors
// the component must give the same bytes that the core module gives in Go.
//
// Usage: node crosscheck.mjs COMPONENTS-FOLDER (make crosscheck)

import { componentEmbed, componentNew, transpile } from '@bytecodealliance/jco';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

// wrap makes a component of a core module and loads it.
async function wrap(name, core, wit, scratch) {
  const typed = await componentEmbed({ binary: core, witSource: wit, world: name });
  const component = await componentNew(typed, []);
  const { files } = await transpile(component, { name });
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(join(scratch, dirname(file)), { recursive: true });
    writeFileSync(join(scratch, file), text);
  }
  return import(pathToFileURL(join(scratch, `${name}.js`)));
}

// same fails with both values unless the bytes are equal.
function same(what, got, want) {
  const hex = Buffer.from(got).toString('hex');
  if (hex !== want) throw new Error(`${what}:\n got  ${hex}\n want ${want}`);
}

// replay has one function for each guest with vectors; it returns what it compared.
const replay = {
  projection({ fold }, vectors) {
    const events = vectors.events.map(([time, order, product, amount, quantity, kind]) =>
      ({ time: BigInt(time), order, product, amount, quantity, kind }));
    const half = events.length >> 1;
    fold.apply(events.slice(0, half));
    if (!fold.restore(fold.save())) throw new Error('refuses its own state');
    if (fold.restore(new Uint8Array(3))) throw new Error('takes three bytes for a state');
    const folded = fold.apply(events.slice(half));
    if (folded !== BigInt(events.length)) throw new Error(`folded ${folded} of ${events.length} events`);
    for (const { version, counts, top, recent, encoding } of vectors.views) {
      same(`view ${top} ${recent}`, fold.encode({ version: BigInt(version), counts, top, recent }), encoding);
    }
    same('state', fold.save(), vectors.state);
    return vectors.views.length + 1;
  },
};

const root = process.argv[2];
let failed = 0;
for (const name of readdirSync(root).sort()) {
  const wit = join(root, name, 'guest', `${name}.wit`);
  if (!existsSync(wit)) continue;
  const scratch = mkdtempSync(join(tmpdir(), 'nexus-crosscheck-'));
  try {
    writeFileSync(join(scratch, 'package.json'), '{"type":"module"}');
    const core = readFileSync(join(root, name, `${name}.wasm`));
    const component = await wrap(name, core, readFileSync(wit, 'utf8'), scratch);
    const vectors = join(root, name, 'testdata', 'vectors.json');
    let compared = 'no vectors';
    if (replay[name]) compared = `${replay[name](component, JSON.parse(readFileSync(vectors, 'utf8')))} vectors equal`;
    console.log(`${name}: a component, ${compared}`);
  } catch (error) {
    failed++;
    console.error(`${name}: ${error.message}`);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}
process.exit(failed ? 1 : 0);
