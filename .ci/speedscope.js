// node speedscope.js DIR FILE: speedscope's own importer on a file; DIR is its package's dist/release. Prints, as JSON,
// of each profile its name, its weight, and its slices: name, depth, begin and end, from 0.
const fs = require('fs'), path = require('path');
const [dir, file] = process.argv.slice(2);
let source = fs.readFileSync(path.join(dir, fs.readdirSync(dir).find((name) => /^speedscope-.*\.js$/.test(name))), 'utf8');
// The importer is a lazy module of the application: have the bundle hand it out, and give it no browser.
const module_ = /var ([\w$]+)=\{\};[\w$]+\(\1,\{(?:[\w$]+:\(\)=>[\w$]+,)*importProfileGroupFromText/.exec(source)[1];
const loader = new RegExp('\\.then\\(\\(\\)=>\\((\\w+)\\(\\),' + module_.replace('$', '\\$') + '\\)\\)').exec(source)[1];
source = source.replace(/console\.log\(`speedscope v/,
  `globalThis.importer=(${loader}(),${module_}.importProfileGroupFromText);console.log(\`speedscope v`);
const stub = () => new Proxy(function () {}, {
  get: (_, key) => key === Symbol.toPrimitive ? () => '' : key === 'length' ? 0 : key === 'then' ? undefined : stub(),
  apply: stub, construct: stub, set: () => true, has: () => true,
});
for (const name of ['log', 'time', 'timeEnd', 'warn']) console[name] = () => {};
for (const name of ['window', 'document', 'navigator', 'location', 'localStorage', 'self', 'HTMLElement', 'matchMedia',
  'addEventListener', 'requestAnimationFrame', 'getComputedStyle', 'FileReader', 'Image']) {
  Object.defineProperty(globalThis, name, { value: stub(), configurable: true, writable: true });
}
globalThis.TextDecoder = require('util').TextDecoder;
try { (0, eval)(source); } catch (error) { if (!globalThis.importer) throw error; }
(async () => {
  const group = await globalThis.importer(path.basename(file), fs.readFileSync(file, 'utf8'));
  const profiles = group === null ? null : group.profiles.map((profile) => {
    const open = [], slices = [];
    profile.forEachCall((node, at) => open.push(at), (node, at) => {
      const begin = open.pop();
      slices.push([node.frame.name, open.length, begin, at]);
    });
    return { name: profile.getName(), total: profile.getTotalWeight(), slices };
  });
  fs.writeSync(1, JSON.stringify(profiles));
  process.exit(0);
})();
